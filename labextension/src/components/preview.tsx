/** Columns and first rows of a table or a dataset. */
import * as React from 'react';

import { IColumn, IPreview } from '../model';
import { clip, number, shown } from '../texts';

const COLUMNS = 60;

export function Preview({ preview }: { preview: Partial<IPreview> }): JSX.Element | null {
  const columns = preview.columns ?? [];
  const rows = preview.first ?? [];
  if (columns.length === 0) {
    return null;
  }
  return (
    <div className="jp-mlp-scroll" tabIndex={0} aria-label="First rows">
      <table className="jp-mlp-table">
        <thead>
          <tr>
            {columns.slice(0, COLUMNS).map(column => (
              <th key={column.name} scope="col" title={about(column)}>
                <bdi>{clip(column.name, 40)}</bdi> <small>{clip(column.type, 24)}</small>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.slice(0, 5).map((row, place) => (
            <tr key={place}>
              {row.slice(0, COLUMNS).map((value, at) => (
                <td key={at} className={typeof value === 'number' ? 'jp-mlp-number' : ''}>
                  <bdi>{clip(shown(value), 60)}</bdi>
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function about(column: IColumn): string {
  const said = [`${column.name}: ${column.type}`];
  if (column.nulls) {
    said.push(`${number(column.nulls)} null`);
  }
  if (column.low !== undefined) {
    said.push(`${shown(column.low)} to ${shown(column.high)}`);
  }
  return clip(said.join(', '), 300);
}
