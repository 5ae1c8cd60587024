/** One line of a list, and the drawer below it. */
import { caretDownIcon, caretRightIcon, copyIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { IWritten, next } from '../cells';
import { useLab } from '../context';
import { IRow } from '../model';
import { ago, clip } from '../texts';
import { Lineage } from './lineage';

export interface IRowProps {
  row: IRow;
  /** What stands in the drawer between the reference and the lineage. */
  children?: React.ReactNode;
  /** Further buttons of the drawer. */
  actions?: React.ReactNode;
  /** The word of the state; none where it says nothing new. */
  state?: string;
  /** What stands before the title, such as a box to choose it by. */
  before?: React.ReactNode;
  /** What stands where the age does. */
  when?: string;
  /** The cells that it offers to write; those of its kind when left out. */
  written?: IWritten[];
  /** Whether it has used and made anything: a schedule has not, its runs have. */
  recorded?: boolean;
}

export function Row({ row, children, actions, state, before, when, written = next(row), recorded = true }: IRowProps): JSX.Element {
  const [open, setOpen] = React.useState(false);
  const Caret = open ? caretDownIcon : caretRightIcon;
  const words = [row.title, row.detail, state].filter(Boolean).join(', ');
  return (
    <li className="jp-mlp-row" data-ref={row.ref}>
      <div className="jp-mlp-line">
        {before}
        <button
          className="jp-mlp-open"
          aria-expanded={open}
          aria-label={clip(words)}
          title={clip(row.title, 300)}
          draggable={next(row).length > 0}
          onDragStart={event => event.dataTransfer.setData('text/plain', next(row)[0]?.cell ?? row.ref)}
          onClick={() => setOpen(!open)}
        >
          <Caret.react tag="span" className="jp-mlp-caret" width="14px" height="14px" />
          <bdi className="jp-mlp-title">{clip(row.title)}</bdi>
          {state ? <State state={state} /> : null}
          <time className="jp-mlp-time" dateTime={new Date(row.at * 1000).toISOString()}>
            {when ?? ago(row.at)}
          </time>
          {row.detail ? <bdi className="jp-mlp-detail">{clip(row.detail, 160)}</bdi> : null}
        </button>
        <Copy text={row.ref} />
      </div>
      {typeof row.share === 'number' && row.state === 'running' ? (
        <progress className="jp-mlp-progress" max={1} value={row.share} aria-label={`Progress of ${row.title}`} />
      ) : null}
      {open ? (
        <div className="jp-mlp-drawer">
          <div className="jp-mlp-ref">
            <code title={row.ref}>{clip(row.ref, 200)}</code>
          </div>
          {row.error ? <p className="jp-mlp-error">{clip(row.error, 1000)}</p> : null}
          {children}
          <div className="jp-mlp-actions">
            {written.map(one => (
              <Insert key={one.label} label={one.label} cell={one.cell} />
            ))}
            {actions}
          </div>
          {recorded ? <Lineage reference={row.ref} /> : null}
        </div>
      ) : null}
    </li>
  );
}

/** A button that writes a cell; the cell is its title. */
export function Insert({ label, cell, run }: { label: string; cell: string; run?: boolean }): JSX.Element {
  const lab = useLab();
  return (
    <button className="jp-mlp-button" title={`${run ? 'Writes and runs' : 'Writes'} the cell:\n${clip(cell, 400)}`} onClick={() => lab.insert(cell, run)}>
      {label}
    </button>
  );
}

export function Copy({ text }: { text: string }): JSX.Element {
  const lab = useLab();
  const [done, setDone] = React.useState(false);
  return (
    <button
      className="jp-mlp-icon"
      title={done ? 'Copied' : `Copy ${clip(text, 200)}`}
      aria-label={done ? 'Copied' : `Copy the reference ${clip(text)}`}
      onClick={() => {
        lab.copy(text);
        setDone(true);
        window.setTimeout(() => setDone(false), 1500);
      }}
    >
      {done ? '✓' : <copyIcon.react tag="span" width="14px" height="14px" />}
    </button>
  );
}

export function State({ state }: { state: string }): JSX.Element {
  return <span className={`jp-mlp-state jp-mlp-is-${state.replace(/[^a-z]/g, '')}`}>{state}</span>;
}
