/** Models: what each predicts, from what, how well; deploying one, or asking two about the same rows, writes the cell. */
import * as React from 'react';

import { against } from '../cells';
import { Other } from '../components/difference';
import { Rows, Section } from '../components/list';
import { Insert, Row } from '../components/row';
import { useLab, useListing, useRead } from '../context';
import { Change, IRow, IThing } from '../model';
import { clip, number } from '../texts';

const wakes = (change: Change): boolean => change.changed === 'records';

export function ModelsPanel(): JSX.Element {
  const { api } = useLab();
  const [models, reader] = useListing(cursor => api.list('model', cursor), wakes);
  return (
    <Section name="models" title="Models">
      <Rows name="models" listing={models} further={() => void reader.further()} row={row => <ModelRow key={row.name} row={row} rows={models.rows} />} />
    </Section>
  );
}

export function ModelRow({ row, rows = [] }: { row: IRow; rows?: readonly IRow[] }): JSX.Element {
  return (
    <Row row={{ ...row, detail: `${row.name.slice(0, 8)}  ${row.detail ?? ''}` }} state={clip((row.aliases ?? []).join(', '), 40)}>
      <Card row={row} />
      <Other row={row} rows={rows} of={chosen => <Insert label="Evaluate both" cell={against(row, chosen)} />} />
    </Row>
  );
}

function Card({ row }: { row: IRow }): JSX.Element {
  const lab = useLab();
  const [thing, error] = useRead<IThing>(() => lab.api.thing(row.ref), () => false, [row.ref]);
  const details = thing?.details;
  return (
    <React.Fragment>
      {error ? <p className="jp-mlp-error">{error}</p> : null}
      {details ? (
        <dl className="jp-mlp-facts">
          <dt>predicts</dt>
          <dd>
            {details.target ?? '–'} {details.task ? `(${details.task})` : ''}
          </dd>
          <dt>from</dt>
          <dd>{clip((details.inputs ?? []).join(', '), 400)}</dd>
          {Object.entries(details.metrics ?? {}).map(([name, value]) => (
            <React.Fragment key={name}>
              <dt>{name}</dt>
              <dd>{number(value)}</dd>
            </React.Fragment>
          ))}
        </dl>
      ) : null}
    </React.Fragment>
  );
}
