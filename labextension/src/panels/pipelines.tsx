/** Pipelines: notebooks that ran from top to bottom; run one again, see its steps, open the executed notebook. */
import * as React from 'react';

import { Rows, Section } from '../components/list';
import { Insert, Row } from '../components/row';
import { useLab, useListing } from '../context';
import { Change, IRow } from '../model';

const wakes = (change: Change): boolean => change.changed === 'records';

export function PipelinesPanel(): JSX.Element {
  const { api } = useLab();
  const [pipelines, reader] = useListing(cursor => api.list('pipeline', cursor), wakes);
  return (
    <Section name="pipelines" title="Pipelines" aside={<Insert label="Steps of this notebook" cell="%mlp_pipeline" run />}>
      <Rows name="pipelines" listing={pipelines} further={() => void reader.further()} row={row => <PipelineRow key={row.ref} row={row} />} />
    </Section>
  );
}

export function PipelineRow({ row }: { row: IRow }): JSX.Element {
  const lab = useLab();
  const executed = row.executed;
  return (
    <Row
      row={row}
      state={row.state === 'finished' ? '' : row.state}
      actions={
        executed ? (
          <button className="jp-mlp-button" onClick={() => lab.openFile(executed)}>
            Open the executed notebook
          </button>
        ) : null
      }
    />
  );
}
