/** Opens the schedule form of the notebook in front, as a tab of the main area. */
import { JupyterFrontEnd } from '@jupyterlab/application';
import { MainAreaWidget, Notification } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';

import { Api } from './api';
import { ScheduleForm } from './form';
import { clockIcon } from './icon';

export async function openForm(app: JupyterFrontEnd, tracker: INotebookTracker, api: Api): Promise<void> {
  const panel = tracker.currentWidget;
  if (!panel) {
    throw new Error('Open the notebook that is to run by itself first.');
  }
  await panel.sessionContext.ready;
  const session = panel.sessionContext.session?.id;
  if (!session) {
    throw new Error('This notebook has no kernel: choose one, then schedule it again.');
  }
  await panel.context.save(); // what is scheduled is the file
  const id = `jupyter-mlp-schedule-${session}`;
  const open = Array.from(app.shell.widgets('main')).find(widget => widget.id === id);
  open?.dispose();
  const form = await api.scheduleForm(session);
  const content = new ScheduleForm(api, session, form, said => {
    widget.dispose();
    Notification.success(said, { autoClose: 5000 });
  });
  const widget = new MainAreaWidget({ content });
  widget.id = id;
  widget.title.label = `Schedule ${form.notebook}`.slice(0, 60);
  widget.title.icon = clockIcon;
  widget.title.closable = true;
  app.shell.add(widget, 'main');
  app.shell.activateById(id);
}
