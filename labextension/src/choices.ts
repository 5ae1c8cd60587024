/** What the user chose in JupyterLab's settings editor. */
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ISignal, Signal } from '@lumino/signaling';

export interface IChoices {
  validityMarks: boolean;
  sqlColours: boolean;
  rowsPerPage: number;
  launcherCards: boolean;
}

export const DEFAULTS: IChoices = { validityMarks: true, sqlColours: true, rowsPerPage: 10, launcherCards: true };

export class Choices {
  private now: IChoices = DEFAULTS;
  private readonly _changed = new Signal<this, void>(this);

  get current(): IChoices {
    return this.now;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Follow the settings of a plugin; where they cannot be read, the defaults stay. */
  async follow(registry: ISettingRegistry, id: string): Promise<void> {
    const settings = await registry.load(id);
    const take = (): void => {
      this.now = { ...DEFAULTS, ...(settings.composite as Partial<IChoices>) };
      this._changed.emit();
    };
    settings.changed.connect(take);
    take();
  }
}
