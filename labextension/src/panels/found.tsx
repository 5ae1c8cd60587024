/** What a search found, by kind in the order of the flow. */
import * as React from 'react';

import { Row } from '../components/row';
import { said, useLab } from '../context';
import { IRow, Kind } from '../model';
import { DataRow } from './data';
import { EndpointRow } from './endpoints';
import { ModelRow } from './models';
import { PipelineRow } from './pipelines';
import { RunRow } from './runs';
import { ScheduleRow } from './schedules';
import { SnapshotRow } from './snapshots';

const ROWS: Partial<Record<Kind, (props: { row: IRow }) => JSX.Element>> = {
  table: DataRow,
  dataset: DataRow,
  run: RunRow,
  model: ModelRow,
  endpoint: EndpointRow,
  snapshot: SnapshotRow,
  pipeline: PipelineRow,
  schedule: ScheduleRow
};
const WAIT_MS = 200;

export function Found({ text }: { text: string }): JSX.Element {
  const lab = useLab();
  const [rows, show] = React.useState<IRow[] | null>(null);
  const [error, complain] = React.useState('');
  React.useEffect(() => {
    let asked = true;
    const timer = window.setTimeout(() => {
      lab.api.search(text).then(
        page => {
          if (asked) {
            show(page.rows);
            complain('');
          }
        },
        (refused: unknown) => asked && complain(said(refused))
      );
    }, WAIT_MS);
    return () => {
      asked = false;
      window.clearTimeout(timer);
    };
  }, [text]);
  if (error) {
    return (
      <p className="jp-mlp-error" role="alert">
        {error}
      </p>
    );
  }
  if (rows?.length === 0) {
    return <p className="jp-mlp-empty">Nothing has words that begin like this. Names, classes and ids are searched.</p>;
  }
  const kinds = Array.from(new Set((rows ?? []).map(row => row.kind)));
  return (
    <div aria-live="polite">
      {kinds.map(kind => (
        <section key={kind} aria-label={kind}>
          <h4 className="jp-mlp-subheading">{kind}</h4>
          <ul className="jp-mlp-rows">
            {(rows ?? [])
              .filter(row => row.kind === kind)
              .map(row => {
                const One = ROWS[kind] ?? Plain;
                return <One key={row.ref} row={row} />;
              })}
          </ul>
        </section>
      ))}
    </div>
  );
}

function Plain({ row }: { row: IRow }): JSX.Element {
  const lab = useLab();
  const report = ['evaluation', 'verification', 'report'].includes(row.kind);
  return (
    <Row
      row={row}
      actions={
        report ? (
          <button className="jp-mlp-button" onClick={() => lab.openReport(row.ref, row.title)}>
            Open the report
          </button>
        ) : null
      }
    />
  );
}
