/** What the panels ask of JupyterLab: cells, dialogs, the clipboard, files and frames. */
import { JupyterFrontEnd } from '@jupyterlab/application';
import { Clipboard, Dialog, IFrame, MainAreaWidget, Notification, showDialog } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { INotebookTracker } from '@jupyterlab/notebook';

import { Api } from './api';
import { Changes } from './changes';
import { Choices } from './choices';
import { ILab, said } from './context';
import { icon } from './icon';
import { Writer } from './insert';
import { openForm } from './schedule';

export function makeLab(app: JupyterFrontEnd, tracker: INotebookTracker, writer: Writer, choices: Choices): ILab {
  const api = new Api(() => choices.current.rowsPerPage);
  const say = (error: unknown): void => {
    Notification.error(said(error), { autoClose: 10000 });
  };
  const openReport = (ref: string, title: string): void => {
    const id = `jupyter-mlp-report-${ref}`;
    const open = Array.from(app.shell.widgets('main')).find(widget => widget.id === id);
    if (!open) {
      const content = new IFrame({ sandbox: [] }); // it runs no script, whatever it says
      content.url = api.reportUrl(ref);
      const widget = new MainAreaWidget({ content });
      widget.id = id;
      widget.title.label = title.slice(0, 60);
      widget.title.icon = icon;
      widget.title.closable = true;
      app.shell.add(widget, 'main', { mode: 'split-right' });
    }
    app.shell.activateById(id);
  };
  return {
    api,
    started: app.restored.then(() => new Promise(resolve => requestIdleCallback(() => resolve(), { timeout: 1000 }))),
    changes: new Changes(api),
    say,
    insert: (cell, run) => void writer.insert(cell, run).catch(say),
    schedule: () => void openForm(app, tracker, api).catch(say),
    copy: text => Clipboard.copyToSystem(text),
    sure: async (title, body, button) => (await showDialog({ title, body, defaultButton: 0, buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: button })] })).button.accept,
    openReport,
    openExecuted: (ref, title, path) => {
      const inside = relative(path, PageConfig.getOption('serverRoot'), PageConfig.getOption('rootUri'));
      if (inside === null || hidden(inside)) {
        openReport(ref, title); // the workspace usually lies outside the folder that JupyterLab shows
      } else {
        app.commands.execute('docmanager:open', { path: inside }).catch(say);
      }
    }
  };
}

/** Whether JupyterLab hides a file. */
export function hidden(path: string): boolean {
  return path.split('/').some(part => part.startsWith('.'));
}

/** A path as JupyterLab names it, below its own root; null outside. */
export function relative(path: string, serverRoot: string, rootUri: string): string | null {
  const root = rootUri ? decodeURIComponent(rootUri.replace(/^file:\/\//, '')) : serverRoot;
  const start = root.endsWith('/') ? root : `${root}/`;
  return path.startsWith(start) ? path.slice(start.length) : null;
}
