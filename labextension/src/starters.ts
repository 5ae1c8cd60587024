/** Cards of the launcher: a new notebook from each of the starters that the server has. */
import { JupyterFrontEnd } from '@jupyterlab/application';
import { ILauncher } from '@jupyterlab/launcher';
import { IDisposable } from '@lumino/disposable';

import { Choices } from './choices';
import { ILab } from './context';
import { icon } from './icon';
import { IStarter } from './model';

export const NEW = 'jupyter-mlp:new';
const CATEGORY = 'Machine Learning';

export function addStarters(app: JupyterFrontEnd, lab: ILab, launcher: ILauncher, choices: Choices): void {
  let cards: IDisposable[] = [];
  let starters: IStarter[] = [];
  app.commands.addCommand(NEW, {
    label: args => String(args['title'] ?? 'New Notebook from a Starter'),
    caption: args => String(args['says'] ?? 'A notebook that trains, evaluates and deploys, to be changed to your own table'),
    icon: args => (args['isPalette'] ? undefined : icon),
    execute: args => open(app, lab, String(args['name'] ?? 'tabular'), String(args['cwd'] ?? '')).catch(lab.say)
  });
  const show = (): void => {
    cards.forEach(card => card.dispose());
    const wanted = choices.current.launcherCards ? starters : [];
    cards = wanted.map(({ name, title, says }, rank) => launcher.add({ command: NEW, category: CATEGORY, rank, args: { name, title, says } }));
  };
  const read = async (): Promise<void> => {
    starters = (await lab.api.starters()).starters;
    show();
  };
  choices.changed.connect(show);
  void lab.started.then(read).catch(lab.say);
}

/** A copy of a starter in a folder, under a name that is free, opened. */
async function open(app: JupyterFrontEnd, lab: ILab, name: string, folder: string): Promise<void> {
  const { contents } = app.serviceManager;
  const notebook = await lab.api.starter(name);
  const made = await contents.newUntitled({ path: folder, type: 'notebook' });
  await contents.save(made.path, { type: 'notebook', format: 'json', content: notebook });
  const wanted = made.path.replace(/[^/]*$/, `${name}.ipynb`);
  const renamed = await contents.rename(made.path, wanted).catch(() => made); // it is there already: the new one keeps its name
  await app.commands.execute('docmanager:open', { path: renamed.path, factory: 'Notebook', kernel: { name: 'python3' } });
}
