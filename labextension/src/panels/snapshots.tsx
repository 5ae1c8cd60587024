/** Snapshots: verify one, see cell by cell what came of it, open the report; what is different from another. */
import * as React from 'react';

import { Compare } from '../components/difference';
import { Rows, Section } from '../components/list';
import { Insert, Row } from '../components/row';
import { useLab, useListing, useRead } from '../context';
import { Change, IRow, IThing } from '../model';
import { ago, clip } from '../texts';

const wakes = (change: Change): boolean => change.changed === 'records';
const GOOD = ['identical', 'equal within tolerance', 'not comparable', 'replayed'];

export function SnapshotsPanel(): JSX.Element {
  const { api } = useLab();
  const [snapshots, reader] = useListing(cursor => api.list('snapshot', cursor), wakes);
  return (
    <Section name="snapshots" title="Snapshots" aside={<Insert label="New" cell="%mlp_snapshot" run />}>
      <Rows name="snapshots" listing={snapshots} further={() => void reader.further()} row={row => <SnapshotRow key={row.name} row={row} rows={snapshots.rows} />} />
    </Section>
  );
}

export function SnapshotRow({ row, rows = [] }: { row: IRow; rows?: readonly IRow[] }): JSX.Element {
  const lab = useLab();
  const verified = row.verified;
  const [before, wait] = React.useState<string | null>(null); // the verification that was the newest when another was asked for
  React.useEffect(() => {
    if (before !== null && verified && verified.ref !== before) {
      wait(null);
      lab.openReport(verified.ref, `Verification of ${row.title}`);
    }
  }, [verified?.ref, before]);
  const verify = (): void => {
    wait(verified?.ref ?? '');
    lab.insert(`%mlp_verify ${row.ref}`, true);
  };
  return (
    <Row
      row={{ ...row, detail: `${row.name.slice(0, 8)}, ${row.detail ?? ''}` }}
      state={verified ? (verified.ok ? 'verified' : 'differs') : ''}
      written={[]}
      actions={
        <React.Fragment>
          <button className="jp-mlp-button" title={`Writes and runs the cell:\n%mlp_verify ${row.ref}\nand opens the report`} onClick={verify}>
            Verify
          </button>
          {verified ? (
            <button className="jp-mlp-button" onClick={() => lab.openReport(verified.ref, `Verification of ${row.title}`)}>
              Open the report
            </button>
          ) : null}
        </React.Fragment>
      }
    >
      {verified ? <Verdict reference={verified.ref} /> : <p className="jp-mlp-quiet">Not verified yet.</p>}
      <Compare row={row} rows={rows} />
    </Row>
  );
}

function Verdict({ reference }: { reference: string }): JSX.Element {
  const lab = useLab();
  const [thing, error] = useRead<IThing>(() => lab.api.thing(reference), () => false, [reference]);
  if (error) {
    return <p className="jp-mlp-error">{error}</p>;
  }
  const cells = thing?.details.cells ?? [];
  const others = cells.filter(cell => !GOOD.includes(cell.verdict));
  return (
    <div>
      <p className="jp-mlp-quiet">
        {thing ? `Verified ${ago(thing.at)}: ${cells.length - others.length} of ${cells.length} cells as before` : 'Looking …'}
      </p>
      <ul className="jp-mlp-verdicts">
        {others.slice(0, 20).map(cell => (
          <li key={cell.number}>
            cell {cell.number}: <b>{cell.verdict}</b> {clip([cell.cause, cell.detail].filter(Boolean).join(', '), 200)}
          </li>
        ))}
      </ul>
    </div>
  );
}
