/** What the server sends, as typed JSON; the same words as the Python objects' `to_dict()`. */

export type Kind =
  | 'table'
  | 'dataset'
  | 'recipe'
  | 'run'
  | 'model'
  | 'evaluation'
  | 'endpoint'
  | 'report'
  | 'snapshot'
  | 'verification'
  | 'pipeline'
  | 'schedule';

export interface IColumn {
  name: string;
  type: string;
  nulls?: number;
  low?: unknown;
  high?: unknown;
}

export interface IVariant {
  model: string;
  weight: number;
  shadow: boolean;
}

/** One line of a list. What only some kinds have is optional. */
export interface IRow {
  ref: string;
  short: string;
  kind: Kind;
  name: string;
  title: string;
  state: string;
  error: string | null;
  seconds: number | null;
  at: number;
  user: string;
  host: string;
  notebook: string;
  cell: string;
  verb: string;
  detail?: string;
  columns?: IColumn[];
  sql?: string;
  share?: number | null;
  model?: string | null;
  run?: string | null;
  data?: string;
  target?: string | null;
  aliases?: string[];
  variants?: IVariant[];
  before?: boolean;
  verified?: { ok: boolean; ref: string; at: number } | null;
  executed?: string;
  source?: string;
  cell_id?: string;
  coming?: number | null;
  ticks?: ITick[];
  given?: Record<string, string>;
  retries?: number;
  notify?: number;
}

/** One due run of a schedule, and what became of it. */
export interface ITick {
  tick: string;
  due: number;
  state: string;
  attempt: number;
  seconds: number | null;
  run: string | null;
  snapshot: string | null;
  error: string | null;
}

export interface IParameter {
  name: string;
  type: string | null;
  default: string;
  value: string;
}

/** The form that schedules a notebook, as the server fills it in. */
export interface IScheduleForm {
  notebook: string;
  name: string;
  exists: boolean;
  taken: string[];
  tables: string[];
  cron: string;
  on: string;
  tz: string;
  catch_up: string;
  retries: string;
  backoff: string;
  timeout: string;
  max_running: string;
  notify: string;
  parameters: IParameter[];
}

/** A notebook to begin with. */
export interface IStarter {
  name: string;
  title: string;
  says: string;
}

export interface IScheduleCheck {
  fields: Record<string, string>;
  next: string[];
}

export interface IPage {
  rows: IRow[];
  next: string;
  at_work?: boolean;
}

export interface INamed {
  ref: string;
  short: string;
  kind: string;
  by?: string;
}

export interface ILineage {
  ref: string;
  used: INamed[];
  made: INamed[];
  by: { at: number; user: string; host: string; notebook: string; cell: string; verb: string };
}

export interface IPreview {
  rows: number;
  columns: IColumn[];
  first: unknown[][];
}

export type Series = Record<string, [number, number][]>;

export interface ICellVerdict {
  number: number;
  source: string;
  verdict: string;
  cause: string;
  detail: string;
}

export interface IDetails {
  versions?: INamed[];
  preview?: Partial<IPreview>;
  notes?: string[];
  series?: Series;
  inputs?: string[];
  target?: string | null;
  task?: string | null;
  metrics?: Record<string, number>;
  cells?: ICellVerdict[];
  verdicts?: string[];
  judged?: number;
  validity?: { state: string; reasons: string[] };
}

export interface IThing extends IRow {
  parameters: Record<string, unknown>;
  details: IDetails;
}

/** Where training can run: free and all GPUs, and the workspace's trainings there. */
export interface ICluster {
  name: string;
  kind: string;
  gpus: number;
  free: number;
  has: string;
  running: number;
  queued: number;
  error: string | null;
}

/** One thing that is not the same in two snapshots; empty where it was or is not. */
export interface IDifferent {
  kind: string;
  name: string;
  before: string;
  after: string;
}

export interface IDifference {
  before: string;
  after: string;
  changes: IDifferent[];
}

export interface ITraffic {
  name: string;
  seconds: number;
  requests: number;
  per_s: number;
  errors: number;
  p50_ms: number | null;
  p95_ms: number | null;
  bars: number[];
  models: Record<string, number>;
}

export type Change =
  | { changed: 'records' }
  | { changed: 'endpoints' }
  | { changed: 'requests'; name: string }
  | { changed: 'run'; id: string; text: string; share?: number | null };
