/** The trainings of a notebook, shown again in their cells from the records, when the page or the kernel that showed them is gone. */
import { Cell, CodeCell } from '@jupyterlab/cells';
import { INotebookTracker, NotebookActions, NotebookPanel } from '@jupyterlab/notebook';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { ILab, LabProvider, useLab, useRead } from './context';
import { Change, IRow, IThing } from './model';
import { RunRow } from './panels/runs';

const PROGRESS = 'application/vnd.jupyter-mlp.progress+json';
const GONE = ['restarting', 'autorestarting', 'dead'];

/** Watch all notebooks, those that are opened later too. */
export function revive(tracker: INotebookTracker, lab: ILab): void {
  const follow = (panel: NotebookPanel): void => {
    const look = (): void => void show(panel, lab).catch(lab.say);
    void panel.revealed.then(() => lab.started).then(look);
    panel.sessionContext.statusChanged.connect((_, status) => {
      if (GONE.includes(status)) {
        look();
      }
    });
  };
  tracker.forEach(follow);
  tracker.widgetAdded.connect((_, panel) => follow(panel));
  NotebookActions.executionScheduled.connect((_, { cell }) => views.get(cell.model.id)?.dispose());
}

const views = new Map<string, LiveRun>(); // cell -> what is shown in it

/** The rows that belong into cells of a notebook; its name and the cells' ids say so. */
export function belonging(rows: readonly IRow[], notebook: string, cells: readonly string[]): Map<string, IRow> {
  const found = new Map<string, IRow>();
  for (const row of rows) {
    const cell = row.cell_id ?? '';
    if (row.notebook === notebook && cells.includes(cell) && !found.has(cell) && ['running', 'queued'].includes(row.state)) {
      found.set(cell, row); // the newest comes first
    }
  }
  return found;
}

async function show(panel: NotebookPanel, lab: ILab): Promise<void> {
  const cells = panel.content.widgets.filter(cell => /mlp/.test(cell.model.sharedModel.getSource()));
  if (cells.length === 0 || panel.isDisposed) {
    return; // nothing is asked of the server for notebooks of others
  }
  const { rows } = await lab.api.list('run');
  const name = panel.context.path.split('/').pop() ?? '';
  const found = belonging(rows, name, cells.map(cell => cell.model.id));
  for (const cell of cells) {
    const row = found.get(cell.model.id);
    if (row && cell instanceof CodeCell && !views.has(cell.model.id) && !cell.isDisposed) {
      await cell.ready;
      lab.changes.open();
      attach(cell, new LiveRun(lab, row));
    }
  }
}

/** Below the cell, in place of the line that stopped when nobody told it any more. */
function attach(cell: CodeCell, view: LiveRun): void {
  const { outputArea } = cell;
  const stopped = outputArea.widgets.filter((_, place) => outputArea.model.length > place && PROGRESS in outputArea.model.get(place).data);
  stopped.forEach(widget => widget.hide());
  ReactWidget.attach(view, cell.node);
  views.set(cell.model.id, view);
  const id = cell.model.id;
  view.disposed.connect(() => {
    views.delete(id);
    stopped.forEach(widget => !widget.isDisposed && widget.show());
  });
  (cell as Cell).disposed.connect(() => view.dispose());
}

class LiveRun extends ReactWidget {
  constructor(
    private readonly lab: ILab,
    private readonly row: IRow
  ) {
    super();
    this.addClass('jp-mlp-sidebar');
    this.addClass('jp-mlp-live');
  }

  protected override render(): JSX.Element {
    return (
      <LabProvider value={this.lab}>
        <Live first={this.row} />
      </LabProvider>
    );
  }
}

function Live({ first }: { first: IRow }): JSX.Element {
  const lab = useLab();
  const mine = (change: Change): boolean => change.changed === 'records' || (change.changed === 'run' && change.id === first.name);
  const [thing] = useRead<IThing>(() => lab.api.thing(first.ref), mine, [first.ref]);
  const row = thing ?? first;
  const ended = !['running', 'queued'].includes(row.state);
  return (
    <React.Fragment>
      <ul className="jp-mlp-rows" aria-label="What this cell trains">
        <RunRow row={row} />
      </ul>
      {ended ? (
        <button className="jp-mlp-button" title={`Writes and runs the cell:\n%mlp_attach ${row.ref}`} onClick={() => lab.insert(`%mlp_attach ${row.ref}`, true)}>
          Show what came of it
        </button>
      ) : null}
    </React.Fragment>
  );
}
