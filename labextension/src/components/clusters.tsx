/** Where training can run: what is free there, and what runs and waits. */
import * as React from 'react';

import { useLab, useSometimes } from '../context';
import { ICluster } from '../model';
import { clip } from '../texts';

const PAUSE_MS = 5000; // between two looks, however much happens: each asks every cluster

export function Clusters(): JSX.Element {
  const { api } = useLab();
  const [clusters, error] = useSometimes<ICluster[]>(() => api.clusters(), PAUSE_MS);
  return (
    <React.Fragment>
      {error ? <p className="jp-mlp-error">{error}</p> : null}
      <ul className="jp-mlp-clusters" aria-label="Clusters">
        {(clusters ?? []).map(one => (
          <li key={one.name} data-cluster={one.name} title={`%mlp_train --cluster ${one.name}`}>
            <b>{clip(one.name, 40)}</b>
            {one.gpus && !one.error ? <meter min={0} max={one.gpus} value={one.gpus - one.free} aria-label={`GPUs of ${one.name} in use`} /> : null}
            <span className={one.error ? 'jp-mlp-error' : ''}>{room(one)}</span>
          </li>
        ))}
      </ul>
    </React.Fragment>
  );
}

/** What there is and who has it, in words: 24 of 32 GPUs free, 2 running, 1 queued. */
export function room(one: ICluster): string {
  const free = one.gpus ? `${one.free} of ${one.gpus} GPUs free` : one.has;
  const jobs = [one.running ? `${one.running} running` : '', one.queued ? `${one.queued} queued` : ''];
  return [one.error ? clip(one.error, 200).replace(/\.$/, '') : free, ...jobs].filter(Boolean).join(', ');
}
