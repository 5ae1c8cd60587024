/** Writes cells into the notebook that is open, and runs them where asked. */
import { JupyterFrontEnd } from '@jupyterlab/application';
import { INotebookTracker, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';

import { LOAD } from './cells';

export class Writer {
  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly tracker: INotebookTracker
  ) {}

  /** Write a cell below the active one (or into it, when it is empty), loading the extension first where no cell does. */
  async insert(source: string, run = false): Promise<void> {
    const panel = await this.panel();
    const before = needsLoading(panel) && source !== LOAD ? [LOAD] : [];
    for (const text of [...before, source]) {
      const cell = this.write(panel, text);
      if (run || text === LOAD) {
        await NotebookActions.runCells(panel.content, [cell], panel.sessionContext);
      }
    }
    this.app.shell.activateById(panel.id);
    NotebookActions.focusActiveCell(panel.content);
  }

  private write(panel: NotebookPanel, text: string): NotebookPanel['content']['widgets'][number] {
    const notebook = panel.content;
    const active = notebook.activeCell;
    if (!active || active.model.type !== 'code' || active.model.sharedModel.getSource().trim() !== '') {
      NotebookActions.insertBelow(notebook);
    }
    const cell = notebook.activeCell;
    if (!cell) {
      throw new Error('The notebook takes no cell.');
    }
    cell.model.sharedModel.setSource(text);
    return cell;
  }

  /** The notebook in front, or a new one. */
  private async panel(): Promise<NotebookPanel> {
    const open = this.tracker.currentWidget;
    if (open) {
      await open.context.ready;
      await open.sessionContext.ready;
      return open;
    }
    const specs = this.app.serviceManager.kernelspecs;
    await specs.ready;
    const made: unknown = await this.app.commands.execute('notebook:create-new', { kernelName: specs.specs?.default, activate: true });
    const panel = made instanceof NotebookPanel ? made : this.tracker.currentWidget;
    if (!panel) {
      throw new Error('Open a notebook first.');
    }
    await panel.context.ready;
    await panel.sessionContext.ready;
    return panel;
  }
}

/** Whether no cell loads the extension. */
function needsLoading(panel: NotebookPanel): boolean {
  const cells = panel.content.model?.cells;
  return !cells || !Array.from(cells).some(cell => /^\s*%(load|reload)_ext\s+jupyter_mlp\b/m.test(cell.sharedModel.getSource()));
}
