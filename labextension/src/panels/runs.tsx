/** Runs: what is free, live progress, curves, log, cancel; several chosen ones are compared. */
import * as React from 'react';

import { Clusters } from '../components/clusters';
import { Curves, INamedSeries } from '../components/curves';
import { Rows, Section } from '../components/list';
import { Row } from '../components/row';
import { said, useLab, useListing, useRead } from '../context';
import { Change, IRow, IThing } from '../model';
import { number } from '../texts';

const wakes = (change: Change): boolean => change.changed === 'records';
const MOST = 4;

export function RunsPanel(): JSX.Element {
  const { api } = useLab();
  const [runs, reader] = useListing(cursor => api.list('run', cursor), wakes);
  const [chosen, choose] = React.useState<string[]>([]);
  const box = (row: IRow): JSX.Element => (
    <input
      type="checkbox"
      aria-label={`Compare ${row.short}`}
      title="Compare"
      checked={chosen.includes(row.name)}
      disabled={chosen.length >= MOST && !chosen.includes(row.name)}
      onChange={event => choose(event.target.checked ? [...chosen, row.name] : chosen.filter(name => name !== row.name))}
    />
  );
  return (
    <Section name="runs" title="Runs">
      <Clusters />
      {chosen.length > 1 ? <Comparison rows={runs.rows.filter(row => chosen.includes(row.name))} /> : null}
      <Rows
        name="runs"
        listing={runs}
        further={() => void reader.further()}
        row={row => <RunRow key={row.name} row={row} before={runs.rows.length > 1 ? box(row) : null} />}
      />
    </Section>
  );
}

export function RunRow({ row, before }: { row: IRow; before?: React.ReactNode }): JSX.Element {
  const lab = useLab();
  const under_way = row.state === 'running' || row.state === 'queued';
  const cancel = async (): Promise<void> => {
    const name = row.name;
    if (await lab.sure('Cancel this training?', `${row.title}, ${row.short}: what it learned so far is lost.`, 'Cancel it')) {
      await lab.api.verb('attach', { run: `run:${name}`, cancel: true }).catch(lab.say);
    }
  };
  return (
    <Row
      row={row}
      before={before}
      state={row.state === 'finished' ? '' : row.state}
      actions={
        under_way ? (
          <button className="jp-mlp-button jp-mlp-warn" onClick={() => void cancel()}>
            Cancel
          </button>
        ) : null
      }
    >
      <Live row={row} />
    </Row>
  );
}

function Live({ row }: { row: IRow }): JSX.Element {
  const lab = useLab();
  const mine = (change: Change): boolean => change.changed === 'run' && change.id === row.name;
  const [thing, error] = useRead<IThing>(() => lab.api.thing(row.ref), mine, [row.ref, row.state]);
  const [log, setLog] = React.useState<string | null>(null);
  const readLog = (): void => {
    lab.api.log(row.ref).then(setLog, refused => setLog(said(refused)));
  };
  return (
    <React.Fragment>
      {error ? <p className="jp-mlp-error">{error}</p> : null}
      {thing?.details.series ? <Curves runs={[{ label: row.short, series: thing.details.series }]} /> : null}
      <p className="jp-mlp-quiet">
        <button className="jp-mlp-link" aria-expanded={log !== null} onClick={log === null ? readLog : () => setLog(null)}>
          {log === null ? 'Show the log' : 'Hide the log'}
        </button>
        {log !== null ? (
          <button className="jp-mlp-link" onClick={readLog}>
            read it again
          </button>
        ) : null}
      </p>
      {log !== null ? (
        <pre className="jp-mlp-log" tabIndex={0}>
          {log || 'It printed nothing so far.'}
        </pre>
      ) : null}
    </React.Fragment>
  );
}

function Comparison({ rows }: { rows: IRow[] }): JSX.Element {
  const lab = useLab();
  const key = rows.map(row => row.ref).join(' ');
  const [things] = useRead<IThing[]>(() => Promise.all(rows.map(row => lab.api.thing(row.ref))), change => change.changed === 'run', [key]);
  const series: INamedSeries[] = (things ?? []).map(thing => ({ label: thing.short, series: thing.details.series ?? {} }));
  const names = Array.from(new Set(series.flatMap(one => Object.keys(one.series)))).sort();
  const settings = Array.from(new Set((things ?? []).flatMap(thing => Object.keys(thing.parameters)))).filter(
    name => new Set((things ?? []).map(thing => JSON.stringify(thing.parameters[name]))).size > 1
  );
  return (
    <div className="jp-mlp-comparison" aria-label="Comparison">
      <div className="jp-mlp-scroll">
        <table className="jp-mlp-table">
          <thead>
            <tr>
              <th scope="col">compared</th>
              {series.map((one, place) => (
                <th key={one.label} scope="col" className={`jp-mlp-name-${place % 4}`}>
                  {one.label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {names.map(name => (
              <tr key={name}>
                <th scope="row">{name}</th>
                {series.map(one => (
                  <td key={one.label} className="jp-mlp-number">
                    {last(one, name)}
                  </td>
                ))}
              </tr>
            ))}
            {settings.map(name => (
              <tr key={name}>
                <th scope="row">{name}</th>
                {(things ?? []).map(thing => (
                  <td key={thing.ref}>{JSON.stringify(thing.parameters[name] ?? null).slice(0, 80)}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <Curves runs={series} />
    </div>
  );
}

function last(one: INamedSeries, name: string): string {
  const points = one.series[name] ?? [];
  const end = points[points.length - 1];
  return end ? number(end[1]) : '–';
}
