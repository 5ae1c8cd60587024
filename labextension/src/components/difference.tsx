/** Another of the list to compare one with; and what is different between two snapshots. */
import * as React from 'react';

import { useLab, useRead } from '../context';
import { IDifference, IRow } from '../model';
import { ago, clip } from '../texts';

const MOST = 100; // changes shown

/** The things to compare one with: those of its notebook, or class, first, the newest before it foremost. */
export function others(row: IRow, rows: readonly IRow[]): IRow[] {
  const rest = rows.filter(one => one.ref !== row.ref);
  const own = rest.filter(one => one.title === row.title);
  const older = own.filter(one => one.at <= row.at);
  return [...older, ...own.filter(one => one.at > row.at), ...rest.filter(one => one.title !== row.title)];
}

export function Compare({ row, rows }: { row: IRow; rows: readonly IRow[] }): JSX.Element | null {
  return <Other row={row} rows={rows} of={chosen => <Changes before={chosen} after={row.ref} />} />;
}

/** Chooses another of the list, and shows what is to be shown of the two; nothing where there is no other. */
export function Other({ row, rows, of }: { row: IRow; rows: readonly IRow[]; of: (chosen: string) => JSX.Element }): JSX.Element | null {
  const [chosen, choose] = React.useState('');
  const known = others(row, rows);
  if (known.length === 0) {
    return null;
  }
  return (
    <div>
      <label className="jp-mlp-versions">
        Compare with{' '}
        <select value={chosen} onChange={event => choose(event.target.value)}>
          <option value="">–</option>
          {known.map(one => (
            <option key={one.ref} value={one.ref}>
              {clip(`${one.title}, ${one.name.slice(0, 8)}, ${ago(one.at)}`, 80)}
            </option>
          ))}
        </select>
      </label>
      {chosen ? of(chosen) : null}
    </div>
  );
}

function Changes({ before, after }: { before: string; after: string }): JSX.Element {
  const { api } = useLab();
  const [found, error] = useRead<IDifference>(() => api.difference(before, after), () => false, [before, after]);
  if (error) {
    return <p className="jp-mlp-error">{error}</p>;
  }
  if (!found || found.before !== before) {
    return <p className="jp-mlp-quiet">Looking …</p>;
  }
  if (found.changes.length === 0) {
    return <p className="jp-mlp-quiet">They say the same: cells, parameters, data, packages and models.</p>;
  }
  return (
    <div className="jp-mlp-scroll">
      <table className="jp-mlp-table jp-mlp-difference" aria-label="What is different">
        <thead>
          <tr>
            {['what', 'which', 'before', 'after'].map(name => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {found.changes.slice(0, MOST).map((one, place) => (
            <tr key={place}>
              <td>{one.kind}</td>
              {[one.name, one.before, one.after].map((text, at) => (
                <td key={at} title={clip(text, 1000)}>
                  {clip(text || '–', 60)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {found.changes.length > MOST ? <p className="jp-mlp-quiet">{`and ${found.changes.length - MOST} more`}</p> : null}
    </div>
  );
}
