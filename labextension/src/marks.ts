/** Marks: beside each cell whether a clean run, from top to bottom, would give what it shows; below it who uses its dataset. */
import { Cell } from '@jupyterlab/cells';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { Kernel, KernelMessage } from '@jupyterlab/services';
import { IDisposable } from '@lumino/disposable';

import { Choices } from './choices';

const TARGET = 'jupyter_mlp.marks';
const WAIT_MS = 300;
const CLASS = 'jp-mlp-mark';
const USED = 'jp-mlp-used';

export interface IState {
  state: string;
  reason: string;
}

interface ISign {
  sign: string;
  name: string;
  says: string;
}

const SIGNS: Record<string, ISign> = {
  valid: { sign: '✓', name: 'valid', says: 'Valid: a clean run would give what it shows' },
  stale: { sign: '↻', name: 'stale', says: 'Stale' },
  'out of order': { sign: '⇅', name: 'order', says: 'Out of order' },
  unknown: { sign: '?', name: 'unknown', says: 'Unknown' }
};

/** What a state looks like and says; nothing for a cell that shows nothing yet, as its empty brackets say already. */
export function sign(state: IState | undefined): ISign | null {
  const found = state && SIGNS[state.state];
  if (!found || (state.state === 'unknown' && state.reason === 'it has not run')) {
    return null;
  }
  return { ...found, says: state.reason ? `${found.says}: ${state.reason}` : found.says };
}

/** Watch all notebooks, those that are opened later too. */
export function mark(tracker: INotebookTracker, choices: Choices): void {
  const follow = (panel: NotebookPanel): void => {
    const marks = new Marks(panel, choices);
    panel.disposed.connect(() => marks.dispose());
  };
  tracker.forEach(follow);
  tracker.widgetAdded.connect((_, panel) => follow(panel));
}

class Marks implements IDisposable {
  private comm: Kernel.IComm | null = null;
  private kernel: Kernel.IKernelConnection | null = null;
  private timer = 0;
  private asked = '';
  private states: Record<string, IState> = {};
  private used: Record<string, string> = {};
  private readonly awaited = new WeakSet<Cell>(); // not built yet when there was something to draw
  isDisposed = false;

  constructor(
    private readonly panel: NotebookPanel,
    private readonly choices: Choices
  ) {
    const { sessionContext, content } = panel;
    sessionContext.kernelChanged.connect(() => this.follow(sessionContext.session?.kernel ?? null));
    sessionContext.statusChanged.connect((_, status) => this.hear(status));
    content.modelContentChanged.connect(() => this.soon());
    choices.changed.connect(this.show, this);
    void sessionContext.ready.then(() => this.follow(sessionContext.session?.kernel ?? null));
  }

  dispose(): void {
    this.isDisposed = true;
    window.clearTimeout(this.timer);
    this.choices.changed.disconnect(this.show, this);
  }

  /** A kernel that has loaded us opens a comm, or has one since before this page was loaded. */
  private follow(kernel: Kernel.IKernelConnection | null): void {
    if (this.isDisposed || kernel === this.kernel) {
      return;
    }
    this.forget();
    this.kernel = kernel;
    if (!kernel || !kernel.handleComms) {
      return;
    }
    kernel.registerCommTarget(TARGET, comm => this.use(comm));
    kernel.requestCommInfo({ target_name: TARGET }).then(
      reply => {
        const known = reply.content.status === 'ok' ? Object.keys(reply.content.comms) : [];
        if (known[0] && !this.comm && kernel === this.kernel && !kernel.isDisposed) {
          this.use(kernel.hasComm(known[0]) ? null : kernel.createComm(TARGET, known[0]));
        }
      },
      () => undefined // the kernel ended meanwhile; the next one is asked again
    );
  }

  private use(comm: Kernel.IComm | null): void {
    if (!comm) {
      return;
    }
    this.comm = comm;
    comm.onMsg = (message: KernelMessage.ICommMsgMsg) => {
      const told = message.content.data as unknown as { cells: Record<string, IState>; used?: Record<string, string> };
      this.states = told.cells;
      this.used = told.used ?? {};
      this.show();
    };
    comm.onClose = () => this.forget();
    this.asked = '';
    this.soon();
  }

  private hear(status: Kernel.Status): void {
    if (status === 'restarting' || status === 'autorestarting' || status === 'dead') {
      this.forget(); // what ran is forgotten by the kernel, too
    } else if (status === 'idle') {
      this.soon();
    }
  }

  private forget(): void {
    this.comm = null;
    this.asked = '';
    this.states = {};
    this.used = {};
    this.show();
  }

  private soon(): void {
    window.clearTimeout(this.timer);
    if (this.comm && !this.isDisposed && this.choices.current.validityMarks) {
      this.timer = window.setTimeout(() => this.ask(), WAIT_MS);
    }
  }

  /** Ask once for each thing that stands there and ran; a busy kernel is asked when it is idle again. */
  private ask(): void {
    const model = this.panel.content.model;
    if (!this.comm || this.comm.isDisposed || !model || this.panel.sessionContext.session?.kernel?.status !== 'idle') {
      return;
    }
    const code = this.panel.content.widgets.filter(cell => cell.model.type === 'code');
    const cells = code.map(cell => ({
      id: cell.model.id,
      source: cell.model.sharedModel.getSource(),
      tags: (cell.model.getMetadata('tags') as string[] | undefined) ?? []
    }));
    const counts = code.map(cell => (cell.model.toJSON() as { execution_count?: number | null }).execution_count ?? 0);
    const now = JSON.stringify([cells, counts]);
    if (now === this.asked) {
      this.draw(); // cells that were made anew since, as after a reload from disk, have no marks yet
      return;
    }
    this.asked = now;
    this.comm.send({ cells });
  }

  private show(): void {
    this.draw();
    if (Object.keys(this.states).length === 0) {
      this.soon();
    }
  }

  /** Draw what is known. JupyterLab builds cells when it has time: one that is not built yet is drawn as soon as it is. */
  private draw(): void {
    for (const cell of this.isDisposed ? [] : this.panel.content.widgets) {
      if (cell.model.type === 'code' && !cell.isPlaceholder()) {
        this.drawCell(cell);
      } else if (cell.model.type === 'code' && !this.awaited.has(cell)) {
        this.awaited.add(cell);
        void cell.ready.then(() => this.drawCell(cell));
      }
    }
  }

  private drawCell(cell: Cell): void {
    if (!this.isDisposed && !cell.isDisposed) {
      const shown = this.choices.current.validityMarks;
      draw(cell, shown ? sign(this.states[cell.model.id]) : null);
      tell(cell, shown ? this.used[cell.model.id] : undefined);
    }
  }
}

function draw(cell: Cell, found: ISign | null): void {
  const place = cell.node.querySelector('.jp-Cell-inputWrapper');
  const old = place?.querySelector(`:scope > .${CLASS}`);
  if (!place || !found) {
    old?.remove();
    return;
  }
  const node = old ?? place.appendChild(document.createElement('span'));
  node.className = `${CLASS} ${CLASS}-${found.name}`;
  node.textContent = found.sign;
  node.setAttribute('role', 'img');
  node.setAttribute('title', found.says);
  node.setAttribute('aria-label', found.says);
}

/** A line below the cell's source: what was made from its dataset. */
function tell(cell: Cell, text: string | undefined): void {
  const above = cell.node.querySelector(':scope > .jp-Cell-inputWrapper');
  const old = cell.node.querySelector(`:scope > .${USED}`);
  if (!above || !text) {
    old?.remove();
    return;
  }
  const node = old ?? document.createElement('div');
  node.className = USED;
  node.textContent = text;
  if (!old) {
    above.after(node);
  }
}
