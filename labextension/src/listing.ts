/** The rows of one list: pages read as they are wanted, and the first read again when something changed. */
import { Change, IPage, IRow } from './model';

export interface IListing {
  rows: readonly IRow[];
  more: boolean;
  loading: boolean;
  loaded: boolean;
  error: string;
}

/** Newer rows before those known, each thing once; rows of later pages stay. */
export function merged(fresh: readonly IRow[], known: readonly IRow[], kept: number): IRow[] {
  const keys = new Set(fresh.map(key));
  return [...fresh, ...known.slice(kept).filter(row => !keys.has(key(row)))];
}

/** The same thing in another version is the same row. */
export function key(row: IRow): string {
  return `${row.kind}:${row.name}`;
}

/** The rows after a change that needs no new look at the server: the news of a running training. */
export function told(rows: readonly IRow[], change: Change): readonly IRow[] {
  if (change.changed !== 'run') {
    return rows;
  }
  return rows.map(row => (row.kind === 'run' && row.name === change.id ? { ...row, detail: change.text, share: change.share } : row));
}

export class Listing {
  private state: IListing = { rows: [], more: false, loading: false, loaded: false, error: '' };
  private cursor = '';
  private firstPage = 0;
  private again = false;

  constructor(
    private readonly read: (cursor: string) => Promise<IPage>,
    private readonly show: (state: IListing) => void
  ) {}

  get current(): IListing {
    return this.state;
  }

  /** Read the first page again; asked while it is read, it is read once more and no oftener. */
  async refresh(): Promise<void> {
    if (this.state.loading) {
      this.again = true;
      return;
    }
    await this.load('', page => {
      const rows = merged(page.rows, this.state.rows, this.firstPage);
      const only = rows.length === page.rows.length;
      this.firstPage = page.rows.length;
      if (only) {
        this.cursor = page.next;
      }
      return rows;
    });
    if (this.again) {
      this.again = false;
      await this.refresh();
    }
  }

  /** Read the next page. */
  async further(): Promise<void> {
    if (this.cursor && !this.state.loading) {
      await this.load(this.cursor, page => {
        this.cursor = page.next;
        const keys = new Set(this.state.rows.map(key));
        return [...this.state.rows, ...page.rows.filter(row => !keys.has(key(row)))];
      });
    }
  }

  /** Take the news that a change brings along. */
  hear(change: Change): void {
    const rows = told(this.state.rows, change);
    if (rows !== this.state.rows) {
      this.set({ ...this.state, rows });
    }
  }

  private async load(cursor: string, take: (page: IPage) => IRow[]): Promise<void> {
    this.set({ ...this.state, loading: true });
    try {
      const page = await this.read(cursor);
      const rows = take(page);
      this.set({ rows, more: this.cursor !== '', loading: false, loaded: true, error: '' });
    } catch (error) {
      this.set({ ...this.state, loading: false, error: error instanceof Error ? error.message : String(error) });
    }
  }

  private set(state: IListing): void {
    this.state = state;
    this.show(state);
  }
}
