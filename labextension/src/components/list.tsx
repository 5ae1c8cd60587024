/** A section of the sidebar: its heading, its rows, the next page, and what to do while there are none. */
import { caretDownIcon, caretRightIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { FIRST } from '../cells';
import { IListing } from '../listing';
import { IRow } from '../model';
import { Insert } from './row';

export interface ISectionProps {
  name: string;
  title: string;
  children: React.ReactNode;
  aside?: React.ReactNode;
}

export function Section({ name, title, children, aside }: ISectionProps): JSX.Element {
  const remembered = `jupyter_mlp:closed:${name}`;
  const [open, setOpen] = React.useState(localStorage.getItem(remembered) === null);
  const Caret = open ? caretDownIcon : caretRightIcon;
  const toggle = (): void => {
    if (open) {
      localStorage.setItem(remembered, 'yes');
    } else {
      localStorage.removeItem(remembered);
    }
    setOpen(!open);
  };
  return (
    <section className={`jp-mlp-section jp-mlp-of-${name}`} aria-label={title}>
      <h3 className="jp-mlp-heading">
        <button aria-expanded={open} onClick={toggle}>
          <Caret.react tag="span" width="16px" height="16px" /> {title}
        </button>
        {aside}
      </h3>
      {open ? children : null}
    </section>
  );
}

export interface IRowsProps {
  name: string;
  listing: IListing;
  further: () => void;
  row: (row: IRow) => JSX.Element;
}

export function Rows({ name, listing, further, row }: IRowsProps): JSX.Element {
  const first = FIRST[name];
  if (listing.error) {
    return (
      <p className="jp-mlp-error" role="alert">
        {listing.error}
      </p>
    );
  }
  if (listing.loaded && listing.rows.length === 0 && first) {
    return (
      <div className="jp-mlp-empty">
        <p>{first.says}</p>
        <code>{first.cell}</code>
        <Insert label="Write this cell" cell={first.cell} />
      </div>
    );
  }
  return (
    <React.Fragment>
      <ul className="jp-mlp-rows" aria-busy={listing.loading}>
        {listing.rows.map(row)}
      </ul>
      {listing.more ? (
        <button className="jp-mlp-button jp-mlp-more" disabled={listing.loading} onClick={further}>
          {listing.loading ? 'Reading …' : 'Older ones'}
        </button>
      ) : null}
    </React.Fragment>
  );
}
