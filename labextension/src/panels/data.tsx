/** Data: the lake's tables with schema, versions and first rows; dataset versions with the query that made them. */
import * as React from 'react';

import { Rows, Section } from '../components/list';
import { Preview } from '../components/preview';
import { Row } from '../components/row';
import { useLab, useListing, useRead } from '../context';
import { Change, IRow, IThing } from '../model';
import { clip } from '../texts';

const wakes = (change: Change): boolean => change.changed === 'records';

export function DataPanel(): JSX.Element {
  const { api } = useLab();
  const [tables, readTables] = useListing(cursor => api.list('table', cursor), wakes);
  const [datasets, readDatasets] = useListing(cursor => api.list('dataset', cursor), wakes);
  const none = datasets.loaded && datasets.rows.length === 0;
  return (
    <Section name="data" title="Data">
      <h4 className="jp-mlp-subheading">Tables</h4>
      <Rows name="data" listing={tables} further={() => void readTables.further()} row={row => <DataRow key={row.name} row={row} />} />
      {none ? null : <h4 className="jp-mlp-subheading">Datasets</h4>}
      <Rows name="datasets" listing={datasets} further={() => void readDatasets.further()} row={row => <DataRow key={row.name} row={row} />} />
    </Section>
  );
}

export function DataRow({ row }: { row: IRow }): JSX.Element {
  return (
    <Row row={row}>
      <Content row={row} />
    </Row>
  );
}

function Content({ row }: { row: IRow }): JSX.Element {
  const lab = useLab();
  const [version, choose] = React.useState(row.ref);
  React.useEffect(() => choose(row.ref), [row.ref]);
  const [thing, error] = useRead<IThing>(() => lab.api.thing(version), () => false, [version]);
  const versions = thing?.details.versions ?? [];
  return (
    <React.Fragment>
      {error ? <p className="jp-mlp-error">{error}</p> : null}
      {versions.length > 1 ? (
        <label className="jp-mlp-versions">
          Version{' '}
          <select value={version} onChange={event => choose(event.target.value)}>
            {versions.map(one => (
              <option key={one.ref} value={one.ref}>
                {one.short.split('@')[1] ?? one.short}
                {one.ref === row.ref ? ' (newest)' : ''}
              </option>
            ))}
          </select>
        </label>
      ) : null}
      {thing?.sql ? <pre className="jp-mlp-sql">{clip(thing.sql, 2000)}</pre> : null}
      {thing?.details.preview ? <Preview preview={thing.details.preview} /> : null}
      {(thing?.details.notes ?? []).map(note => (
        <p key={note} className="jp-mlp-quiet">
          {note}
        </p>
      ))}
    </React.Fragment>
  );
}
