/** The cells that a click writes; what a user would have typed. */
import { IRow, Kind } from './model';

export const LOAD = '%load_ext jupyter_mlp';

/** A name that a dataset may have, made of another. */
export function datasetName(name: string): string {
  const found = (name.split('.').pop() ?? '').toLowerCase().replace(/[^a-z0-9_]+/g, '_').replace(/^_+|_+$/g, '');
  return /^[a-z_]/.test(found) ? found : `data_${found}`.replace(/_$/, '');
}

/** A name that an endpoint may have, made of a class's. */
export function endpointName(title: string): string {
  const found = title.replace(/([a-z0-9])([A-Z])/g, '$1-$2').toLowerCase().replace(/[^a-z0-9_-]+/g, '-').replace(/^[-_]+|[-_]+$/g, '');
  return found.slice(0, 63) || 'endpoint';
}

/** A column's or table's name in SQL: in backticks where it is no plain word. */
export function quoted(name: string): string {
  return /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) ? name : '`' + name.replace(/`/g, '``') + '`';
}

/** The first step of each panel, for a workspace that has nothing of it yet. */
export const FIRST: Record<string, { says: string; cell: string }> = {
  data: { says: 'No tables yet. Write a file or a frame into the lake:', cell: '%mlp_table lake.flights flights.csv' },
  runs: { says: 'Nothing was trained yet. Name a LightningModule of this notebook, a dataset and the column to predict:', cell: '%mlp_train MyModel --data trips --target arr_delay' },
  models: { says: 'No models yet: each training makes one.', cell: '%mlp_train MyModel --data trips --target arr_delay' },
  endpoints: { says: 'Nothing is deployed yet. Serve a model over HTTP:', cell: '%mlp_deploy MyModel --to my-endpoint' },
  snapshots: { says: 'No snapshots yet. Tie this notebook to its data and environment:', cell: '%mlp_snapshot' },
  pipelines: { says: 'No notebook has run as a pipeline yet. See the steps of this one:', cell: '%mlp_pipeline' }
};

export interface IWritten {
  label: string;
  cell: string;
}

/** What can be done next with a thing, the most likely first. */
export function next(row: IRow): IWritten[] {
  const writers: Partial<Record<Kind, (row: IRow) => IWritten[]>> = { table, dataset, run, model, endpoint, snapshot, pipeline };
  return writers[row.kind]?.(row) ?? [];
}

function table(row: IRow): IWritten[] {
  const from = row.name.split('.').map(quoted).join('.');
  return [{ label: 'Query', cell: `%%mlp_data ${datasetName(row.name)}\nSELECT * FROM ${from}` }, { label: 'Impact', cell: `%mlp_impact ${row.name}` }];
}

function dataset(row: IRow): IWritten[] {
  const written = row.sql ? [{ label: 'Query text', cell: `%%mlp_data ${row.name}\n${row.sql.trimEnd()}` }] : [];
  return [
    { label: 'Show', cell: `%mlp_data ${row.short.replace(/^dataset:/, '')}` },
    { label: 'Query', cell: `%%mlp_data ${row.name}_2\nSELECT * FROM ${quoted(row.name)}` },
    ...written,
    { label: 'Train', cell: `%mlp_train MyModel --data ${row.name} --target ${row.columns?.[row.columns.length - 1]?.name ?? 'COLUMN'}` }
  ];
}

function run(row: IRow): IWritten[] {
  return [{ label: 'Attach', cell: `%mlp_attach ${row.ref}` }];
}

/** Asks two models about the same rows. */
export function against(row: IRow, other: string): string {
  return `%mlp_evaluate ${row.ref} --data DATASET --against ${other}`;
}

function model(row: IRow): IWritten[] {
  return [
    { label: 'Deploy', cell: `%mlp_deploy ${row.ref} --to ${endpointName(row.title)}` },
    { label: 'Evaluate', cell: `%mlp_evaluate ${row.ref} --data DATASET` },
    { label: 'Predict', cell: `%mlp_predict ${row.ref} --data DATASET --into predictions` }
  ];
}

function endpoint(row: IRow): IWritten[] {
  return [
    { label: 'Predict', cell: `%mlp_predict endpoint:${row.name} --data DATASET` },
    { label: 'Monitor', cell: `%mlp_monitor ${row.name}` }
  ];
}

function snapshot(row: IRow): IWritten[] {
  return [{ label: 'Verify', cell: `%mlp_verify ${row.ref}` }];
}

function pipeline(row: IRow): IWritten[] {
  return row.source ? [{ label: 'Run again', cell: `!mlp run ${word(row.source)}` }, { label: 'Steps', cell: `%mlp_pipeline ${word(row.source)}` }] : [];
}

/** One word of a magic's line or of a shell's, whatever is in it. */
export function word(text: string): string {
  return /^[\w./@:+-]+$/.test(text) ? text : `'${text.replace(/'/g, `'"'"'`)}'`;
}
