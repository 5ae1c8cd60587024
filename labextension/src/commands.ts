/** Commands of the palette and of the notebook's toolbar: each writes and runs the cell that says the same. */
import { JupyterFrontEnd } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { checkIcon, LabIcon, listIcon } from '@jupyterlab/ui-components';

import { Api } from './api';
import { ILab } from './context';
import { cameraIcon, clockIcon } from './icon';

export const OPEN = 'jupyter-mlp:open';
export const SCHEDULE = 'jupyter-mlp:schedule';
const CATEGORY = 'Machine Learning';

interface ISpec {
  id: string;
  label: string;
  caption: string;
  icon: LabIcon;
  cell: (api: Api) => Promise<string>;
}

const SPECS: ISpec[] = [
  {
    id: 'jupyter-mlp:snapshot',
    label: 'Snapshot',
    caption: 'Tie this notebook to its data and environment (%mlp_snapshot)',
    icon: cameraIcon,
    cell: () => Promise.resolve('%mlp_snapshot')
  },
  {
    id: 'jupyter-mlp:pipeline',
    label: 'Convert to Pipeline',
    caption: 'The steps of this notebook, and what each reads and makes (%mlp_pipeline)',
    icon: listIcon,
    cell: () => Promise.resolve('%mlp_pipeline')
  },
  {
    id: 'jupyter-mlp:verify',
    label: 'Verify',
    caption: 'Run the newest snapshot again and compare cell by cell (%mlp_verify)',
    icon: checkIcon,
    cell: newestSnapshot
  }
];

export function addCommands(app: JupyterFrontEnd, tracker: INotebookTracker, lab: ILab, palette: ICommandPalette | null): void {
  for (const spec of SPECS) {
    app.commands.addCommand(spec.id, {
      label: spec.label,
      caption: spec.caption,
      icon: spec.icon,
      isEnabled: () => tracker.currentWidget !== null,
      execute: async () => {
        try {
          lab.insert(await spec.cell(lab.api), true);
        } catch (error) {
          lab.say(error);
        }
      }
    });
    palette?.addItem({ command: spec.id, category: CATEGORY });
  }
  app.commands.addCommand(SCHEDULE, {
    label: 'Schedule',
    caption: 'Let this notebook run by itself, at times or for every new version of a table (mlp schedule)',
    icon: clockIcon,
    isEnabled: () => tracker.currentWidget !== null,
    execute: () => lab.schedule()
  });
  palette?.addItem({ command: SCHEDULE, category: CATEGORY });
  app.commands.addCommand(OPEN, {
    label: 'Show the Machine Learning Sidebar',
    execute: () => app.shell.activateById('jupyter-mlp')
  });
  palette?.addItem({ command: OPEN, category: CATEGORY });
}

async function newestSnapshot(api: Api): Promise<string> {
  const { rows } = await api.list('snapshot');
  const newest = rows[0];
  if (!newest) {
    throw new Error('There is no snapshot yet. Take one first: %mlp_snapshot');
  }
  return `%mlp_verify ${newest.ref}`;
}
