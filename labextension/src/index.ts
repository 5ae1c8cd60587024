import { ILayoutRestorer, JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';

import { addCommands } from './commands';
import { Writer } from './insert';
import { makeLab } from './lab';
import { Sidebar } from './sidebar';
import { highlight } from './sql';

const plugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter_mlp:plugin',
  description: 'The sidebar, the toolbar and the notebook helps of jupyter_mlp',
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, ILayoutRestorer],
  activate: (app: JupyterFrontEnd, tracker: INotebookTracker, palette: ICommandPalette | null, restorer: ILayoutRestorer | null) => {
    const lab = makeLab(app, tracker, new Writer(app, tracker));
    const sidebar = new Sidebar(lab);
    app.shell.add(sidebar, 'left', { rank: 600 });
    restorer?.add(sidebar, sidebar.id);
    addCommands(app, tracker, lab, palette);
    highlight(tracker);
  }
};

export default plugin;
