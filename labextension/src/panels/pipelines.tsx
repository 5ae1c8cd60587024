/** Pipelines and schedules: notebooks that run by themselves, and every run of one from top to bottom. */
import * as React from 'react';

import { Rows, Section } from '../components/list';
import { Insert, Row } from '../components/row';
import { useLab, useListing } from '../context';
import { Change, IRow } from '../model';
import { Schedules } from './schedules';

const wakes = (change: Change): boolean => change.changed === 'records';

export function PipelinesPanel(): JSX.Element {
  const { api } = useLab();
  const [pipelines, reader] = useListing(cursor => api.list('pipeline', cursor), wakes);
  return (
    <Section name="pipelines" title="Pipelines and Schedules" aside={<Insert label="Steps" cell="%mlp_pipeline" run />}>
      <h4 className="jp-mlp-subheading">Schedules</h4>
      <Schedules />
      <h4 className="jp-mlp-subheading">Runs</h4>
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
          <button className="jp-mlp-button" onClick={() => lab.openExecuted(row.ref, row.title, executed)}>
            Open the executed notebook
          </button>
        ) : null
      }
    />
  );
}
