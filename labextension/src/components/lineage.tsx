/** The lineage drawer: what a thing used, what was made from it, and who did it - one step each way, further on a click. */
import * as React from 'react';

import { useLab, useRead } from '../context';
import { ILineage, INamed } from '../model';
import { ago, clip } from '../texts';

export function Lineage({ reference }: { reference: string }): JSX.Element {
  const lab = useLab();
  const [at, go] = React.useState(reference);
  React.useEffect(() => go(reference), [reference]);
  const [found, error] = useRead<ILineage>(() => lab.api.lineage(at), change => change.changed === 'records', [at]);
  if (error) {
    return <p className="jp-mlp-error">{error}</p>;
  }
  if (!found) {
    return <p className="jp-mlp-quiet">Looking …</p>;
  }
  const { by } = found;
  const where = by.notebook ? `${by.notebook}${by.cell ? `, cell ${by.cell}` : ''}` : '';
  return (
    <section className="jp-mlp-lineage" aria-label="Lineage">
      {at !== reference ? (
        <p className="jp-mlp-quiet">
          <button className="jp-mlp-link" onClick={() => go(reference)}>
            ← back
          </button>{' '}
          {clip(at, 80)}
        </p>
      ) : null}
      <Side label="used" things={found.used} go={go} none="nothing recorded" />
      <Side label="made from it" things={found.made} go={go} none="nothing yet" />
      <p className="jp-mlp-quiet">
        {by.verb} by {clip(by.user, 40)}, {ago(by.at)}
        {where ? `, in ${clip(where, 80)}` : ''}
        {' · '}
        <button className="jp-mlp-link" onClick={() => lab.insert(`%mlp_graph ${at}`, true)}>
          draw it
        </button>
      </p>
    </section>
  );
}

function Side({ label, things, go, none }: { label: string; things: INamed[]; go: (ref: string) => void; none: string }): JSX.Element {
  return (
    <div className="jp-mlp-side">
      <span className="jp-mlp-label">{label}</span>
      {things.length === 0 ? <span className="jp-mlp-quiet">{none}</span> : null}
      {things.map(one =>
        one.kind === 'file' || one.kind === 'pin' ? (
          <span key={one.ref} title={one.ref} className="jp-mlp-quiet">
            {clip(one.short, 60)}
          </span>
        ) : (
          <button key={`${one.ref} ${one.by ?? ''}`} className="jp-mlp-link" title={one.ref} onClick={() => go(one.ref)}>
            <bdi>{clip(one.short, 60)}</bdi>
          </button>
        )
      )}
    </div>
  );
}
