import { against, datasetName, endpointName, next, quoted, word } from './cells';
import { pause } from './changes';
import { room } from './components/clusters';
import { line } from './components/curves';
import { others } from './components/difference';
import { chosen, first, sent } from './fields';
import { hidden, relative } from './lab';
import { belonging } from './live';
import { sign } from './marks';
import { Listing, merged, told } from './listing';
import { ICluster, IPage, IRow, IScheduleForm } from './model';
import { isSql } from './sql';
import { ago, clip, number, shown, until } from './texts';

jest.mock('@jupyterlab/apputils', () => ({}));
jest.mock('@jupyterlab/cells', () => ({}));
jest.mock('@jupyterlab/coreutils', () => ({}));
jest.mock('@jupyterlab/notebook', () => ({}));
jest.mock('@jupyterlab/services', () => ({ ServerConnection: { makeSettings: () => ({}) } }));
jest.mock('@jupyterlab/ui-components', () => ({ LabIcon: jest.fn(), ReactWidget: Object }));
jest.mock('./icon', () => ({}));
jest.mock('./schedule', () => ({}));

function row(name: string, more: Partial<IRow> = {}): IRow {
  const none = { error: null, seconds: 1, at: 0, user: '', host: '', notebook: '', cell: '', verb: '' };
  return { ...none, ref: `run:${name}`, short: `run:${name}`, kind: 'run', name, title: name, state: 'finished', ...more };
}

describe('clusters', () => {
  const lab: ICluster = { name: 'lab', kind: 'slurm', gpus: 32, free: 24, has: '32 GPUs', running: 2, queued: 0, error: null };
  test('what is free, and who has the rest', () => {
    expect(room(lab)).toBe('24 of 32 GPUs free, 2 running');
    expect(room({ ...lab, gpus: 0, free: 0, has: 'no GPU and 2 cores on 1 node', running: 0, queued: 3 })).toBe(
      'no GPU and 2 cores on 1 node, 3 queued'
    );
    expect(room({ ...lab, error: 'lab does not answer.' })).toBe('lab does not answer, 2 running');
  });
});

describe('snapshots', () => {
  test('one is compared with the one before it of the same notebook first', () => {
    const one = row('b', { title: 'a', at: 2 });
    const rows = [row('d', { title: 'a', at: 4 }), row('c', { title: 'b', at: 3 }), one, row('a', { title: 'a', at: 1 })];
    expect(others(one, rows).map(one => one.name)).toEqual(['a', 'd', 'c']);
  });
});

describe('texts', () => {
  test('times', () => {
    expect(ago(100, 110)).toBe('now');
    expect(ago(0, 3 * 3600 + 5)).toBe('3 h ago');
    expect(ago(200, 100)).toBe('now');
    expect(until(3 * 3600 + 5, 0)).toBe('in 3 h');
  });
  test('numbers and values', () => {
    expect(number(12345)).toBe('12,345');
    expect(number(0.123456)).toBe('0.1235');
    expect(shown(2013)).toBe('2013');
    expect(shown(null)).toBe('–');
  });
  test('a text is cut between letters, never inside one', () => {
    expect(clip('😀'.repeat(10), 3)).toBe('😀😀…');
    expect(clip('x'.repeat(10000)).length).toBe(120);
  });
});

describe('cells', () => {
  test('names become names that can be used', () => {
    expect(datasetName('lake.Flights-2013')).toBe('flights_2013');
    expect(datasetName('lake.2013')).toBe('data_2013');
    expect(endpointName('DelayModel')).toBe('delay-model');
    expect(quoted('a b`c')).toBe('`a b``c`');
    expect(word("it's here.ipynb")).toBe(`'it'"'"'s here.ipynb'`);
  });
  test('a table is queried, a dataset trained on', () => {
    expect(next(row('lake.flights', { kind: 'table' }))[0]?.cell).toBe('%%mlp_data flights\nSELECT * FROM lake.flights');
    const columns = [{ name: 'delay', type: 'double' }];
    expect(next(row('trips', { kind: 'dataset', columns })).map(one => one.cell)).toContain('%mlp_train MyModel --data trips --target delay');
  });
  test('a model is asked beside another about the same rows', () => {
    const one = row('a', { kind: 'model', ref: 'model:a' });
    expect(against(one, 'model:b')).toBe('%mlp_evaluate model:a --data DATASET --against model:b');
  });
  test('SQL cells', () => {
    expect(isSql('%%mlp_data trips\nSELECT 1')).toBe(true);
    expect(isSql('# %%mlp_data\nx')).toBe(false);
  });
});

describe('lists', () => {
  test('what is new comes first, and nothing twice', () => {
    const names = merged([row('c'), row('a')], [row('a'), row('b'), row('z')], 2).map(one => one.name);
    expect(names).toEqual(['c', 'a', 'z']);
  });
  test('news of a run changes its row alone', () => {
    const rows = told([row('a'), row('b')], { changed: 'run', id: 'b', text: 'epoch 2', share: 0.5 });
    expect(rows.map(one => one.detail)).toEqual([undefined, 'epoch 2']);
  });
  test('many changes while one is read are one more reading', async () => {
    let reads = 0;
    const read = (): Promise<IPage> => Promise.resolve({ rows: [row(String(reads++))], next: '' });
    const listing = new Listing(read, () => undefined);
    await Promise.all([listing.refresh(), listing.refresh(), listing.refresh()]);
    expect(reads).toBe(2);
    expect(listing.current.error).toBe('');
  });
  test('a further page follows the first', async () => {
    const pages: Record<string, IPage> = { '': { rows: [row('a')], next: 'x' }, x: { rows: [row('b')], next: '' } };
    const listing = new Listing(cursor => Promise.resolve(pages[cursor] ?? { rows: [], next: '' }), () => undefined);
    await listing.refresh();
    expect(listing.current.more).toBe(true);
    await listing.further();
    expect(listing.current.rows.map(one => one.name)).toEqual(['a', 'b']);
    expect(listing.current.more).toBe(false);
  });
  test('a refusal is said and the rows stay', async () => {
    let broken = false;
    const read = (): Promise<IPage> => (broken ? Promise.reject(new Error('gone')) : Promise.resolve({ rows: [row('a')], next: '' }));
    const listing = new Listing(read, () => undefined);
    await listing.refresh();
    broken = true;
    await listing.refresh();
    expect(listing.current).toMatchObject({ error: 'gone', rows: [{ name: 'a' }] });
  });
});

test('a lost stream is sought again, ever more patiently', () => {
  expect([0, 1, 3, 20].map(pause)).toEqual([1000, 2000, 8000, 30000]);
});

test('a line is drawn within its picture, whatever the numbers', () => {
  const drawn = line([[0, NaN], [1, 5], [2, 5]], { x: [0, 2], y: [5, 5] });
  expect(drawn).toBe('120.0,32.0 236.0,32.0');
});

test('a file is named below the folder that JupyterLab shows', () => {
  expect(relative('/home/ana/nb/x.ipynb', '/home/ana', '')).toBe('nb/x.ipynb');
  expect(relative('/home/anabel/x.ipynb', '/home/ana', '')).toBeNull();
});

describe('the schedule form', () => {
  const form: IScheduleForm = {
    notebook: 'nightly', name: 'nightly', exists: false, taken: [], tables: [], cron: '0 3 * * *', on: '', tz: 'UTC', catch_up: 'latest',
    retries: '0', backoff: '1min', timeout: '', max_running: '1', notify: '',
    parameters: [
      { name: 'month', type: 'int', default: '1', value: '' },
      { name: 'city', type: 'str', default: 'None', value: '' }
    ]
  };
  test('what is left as the notebook has it is not sent', () => {
    const fields = { ...first(form), 'parameters.city': 'Bern' };
    expect(sent(form, fields, false)).toMatchObject({ cron: '0 3 * * *', 'parameters.city': 'Bern' });
    expect(sent(form, fields, false)).not.toHaveProperty('parameters.month');
    expect(sent(form, fields, true)).not.toHaveProperty('cron');
  });
  test('a cron line is the choice that writes it', () => {
    expect(chosen('0 3 * * *')).toBe('0 3 * * *');
    expect(chosen('7 3 * * *')).toBe('');
  });
  test('what JupyterLab hides is not opened as its file', () => {
    expect(hidden('nb/.demo/x.ipynb')).toBe(true);
    expect(hidden('nb/x.ipynb')).toBe(false);
  });
});

test('a mark says what is wrong and why, and nothing of a cell that has not run', () => {
  expect(sign({ state: 'stale', reason: 'x was made anew' })).toMatchObject({ name: 'stale', says: 'Stale: x was made anew' });
  expect(sign({ state: 'valid', reason: '' })?.says).toBe('Valid: a clean run would give what it shows');
  expect(sign({ state: 'unknown', reason: 'it has not run' })).toBeNull();
  expect(sign(undefined)).toBeNull();
});

test('a training is shown again in the cell that began it, the newest one, while it runs', () => {
  const of = (name: string, cell_id: string, state = 'running'): IRow => row(name, { notebook: 'a.ipynb', cell_id, state });
  const rows = [of('new', 'c1'), of('old', 'c1'), of('done', 'c2', 'finished'), of('gone', 'c9'), { ...of('other', 'c3'), notebook: 'b.ipynb' }];
  expect(Array.from(belonging(rows, 'a.ipynb', ['c1', 'c2', 'c3'])).map(([cell, one]) => [cell, one.name])).toEqual([['c1', 'new']]);
});
