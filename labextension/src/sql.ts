/** SQL is shown as SQL in the cells whose first line is `%%mlp_data`; completion stays the kernel's. */
import { Cell } from '@jupyterlab/cells';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { Signal } from '@lumino/signaling';

import { Choices } from './choices';

const SQL = 'text/x-sql';

/** Whether a cell holds SQL. */
export function isSql(source: string): boolean {
  return /^\s*%%mlp_data\b/.test(source);
}

/** Watch all notebooks, those that are opened later too. */
export function highlight(tracker: INotebookTracker, choices: Choices): void {
  const watched = new WeakSet<Cell['model']>();
  const follow = (panel: NotebookPanel): void => {
    const look = (): void => {
      for (const cell of panel.content.widgets) {
        const { model } = cell;
        if (model.type !== 'code' || watched.has(model)) {
          continue;
        }
        watched.add(model);
        model.sharedModel.disposed.connect(() => Signal.disconnectReceiver(model));
        let python = isSql(model.sharedModel.getSource()) ? '' : model.mimeType;
        const choose = (): void => {
          const sql = choices.current.sqlColours && isSql(model.sharedModel.getSource());
          if (sql && model.mimeType !== SQL) {
            python = model.mimeType;
            model.mimeType = SQL;
          } else if (!sql && model.mimeType === SQL) {
            model.mimeType = python || panel.content.codeMimetype;
          }
        };
        model.contentChanged.connect(choose);
        model.mimeTypeChanged.connect(choose); // the kernel's language arrives after the cell
        choices.changed.connect(choose, model); // let go with the cell
        choose();
      }
    };
    panel.content.modelContentChanged.connect(look);
    void panel.context.ready.then(look);
  };
  tracker.forEach(follow);
  tracker.widgetAdded.connect((_, panel) => follow(panel));
}
