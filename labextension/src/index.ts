import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';

import { Choices } from './choices';
import { addCommands } from './commands';
import { Writer } from './insert';
import { makeLab } from './lab';
import { revive } from './live';
import { mark } from './marks';
import { Sidebar } from './sidebar';
import { highlight } from './sql';
import { addStarters } from './starters';

const ID = 'jupyter_mlp:plugin';

const plugin: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: 'The sidebar, the toolbar and the notebook helps of jupyter_mlp',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, ILayoutRestorer, ISettingRegistry, ILauncher],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    palette: ICommandPalette | null,
    restorer: ILayoutRestorer | null,
    settings: ISettingRegistry | null,
    launcher: ILauncher | null
  ) => {
    const choices = new Choices();
    const lab = makeLab(app, tracker, new Writer(app, tracker), choices);
    const sidebar = new Sidebar(lab);
    app.shell.add(sidebar, 'left', { rank: 600 });
    restorer?.add(sidebar, sidebar.id);
    addCommands(app, tracker, lab, palette);
    highlight(tracker, choices);
    mark(tracker, choices);
    revive(tracker, lab);
    if (launcher) {
      addStarters(app, lab, launcher, choices);
    }
    if (settings) {
      choices.follow(settings, ID).catch(lab.say);
    }
  }
};

export default plugin;
