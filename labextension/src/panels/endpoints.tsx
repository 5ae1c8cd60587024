/** Endpoints: who answers, how fast, how often, which model is better; traffic and roll-back, asked for before production changes. */
import * as React from 'react';

import { Rows, Section } from '../components/list';
import { Row } from '../components/row';
import { useLab, useListing, useRead } from '../context';
import { Change, IRow, IThing, ITraffic, IVariant } from '../model';
import { ago, clip, number } from '../texts';

const wakes = (change: Change): boolean => change.changed === 'records' || change.changed === 'endpoints';

export function EndpointsPanel(): JSX.Element {
  const { api } = useLab();
  const [endpoints, reader] = useListing(cursor => api.list('endpoint', cursor), wakes);
  return (
    <Section name="endpoints" title="Endpoints">
      <Rows name="endpoints" listing={endpoints} further={() => void reader.further()} row={row => <EndpointRow key={row.name} row={row} />} />
    </Section>
  );
}

export function EndpointRow({ row }: { row: IRow }): JSX.Element {
  const lab = useLab();
  const [busy, setBusy] = React.useState('');
  const change = async (title: string, body: string, button: string, verb: string, given: Record<string, unknown>): Promise<void> => {
    if (await lab.sure(title, body, button)) {
      setBusy(`${button} …`);
      await lab.api.verb(verb, given).catch(lab.say);
      setBusy('');
    }
  };
  const running = row.state === 'ready' || row.state === 'cold'; // a cold one loads its model at the next request
  const name = row.name;
  return (
    <Row
      row={{ ...row, detail: busy || summary(row.variants ?? []) }}
      state={row.state === 'cold' ? 'ready (cold)' : row.state}
      actions={
        <React.Fragment>
          {row.before && running ? (
            <button
              className="jp-mlp-button"
              disabled={busy !== ''}
              onClick={() =>
                void change(`Roll ${name} back?`, `${name} answers with what it served before; no request is lost.`, 'Roll back', 'endpoint', {
                  endpoint: name,
                  rollback: true
                })
              }
            >
              Roll back
            </button>
          ) : null}
          {running ? (
            <button
              className="jp-mlp-button jp-mlp-warn"
              disabled={busy !== ''}
              onClick={() => void change(`Stop ${name}?`, `${name} answers nobody any more.`, 'Stop it', 'endpoint', { endpoint: name, stop: true })}
            >
              Stop
            </button>
          ) : null}
          {row.state === 'stopped' || row.state === 'down' ? (
            <button
              className="jp-mlp-button"
              disabled={busy !== ''}
              onClick={() =>
                void change(`Start ${name}?`, `${name} answers again with what it served before.`, 'Start it', 'endpoint', {
                  endpoint: name,
                  start: true
                })
              }
            >
              Start
            </button>
          ) : null}
        </React.Fragment>
      }
    >
      <Share
        row={row}
        disabled={!running || busy !== ''}
        change={(model, percent, before) =>
          void change(
            `Change what ${name} answers with?`,
            `model:${model.slice(0, 8)} answers ${percent} % of the requests instead of ${before} %.`,
            'Change it',
            'deploy',
            { model: `model:${model}`, to: name, traffic: percent }
          )
        }
      />
      {running ? <Lately name={name} /> : null}
      {(row.variants ?? []).length > 1 ? <Verdict row={row} /> : null}
    </Row>
  );
}

/** Who answers, in a line. */
export function summary(variants: readonly IVariant[]): string {
  return variants.map(one => `${one.model.slice(0, 8)} ${one.shadow ? 'shadow' : `${one.weight} %`}`).join(', ');
}

interface IShareProps {
  row: IRow;
  disabled: boolean;
  change: (model: string, percent: number, before: number) => void;
}

function Share({ row, disabled, change }: IShareProps): JSX.Element {
  const answering = (row.variants ?? []).filter(one => !one.shadow);
  const beside = answering.length === 2 ? answering[1] : undefined; // the other one takes what is left
  return (
    <ul className="jp-mlp-variants">
      {(row.variants ?? []).map(one => (
        <li key={one.model}>
          <code title={`model:${one.model}`}>{one.model.slice(0, 8)}</code>
          {one.shadow ? ' shadow: a copy of the requests, answers nobody' : ` ${one.weight} %`}
          {one === beside ? <Slider variant={one} disabled={disabled} change={change} /> : null}
        </li>
      ))}
    </ul>
  );
}

function Slider({ variant, disabled, change }: { variant: IVariant; disabled: boolean; change: IShareProps['change'] }): JSX.Element {
  const [percent, set] = React.useState(variant.weight);
  React.useEffect(() => set(variant.weight), [variant.weight]);
  return (
    <React.Fragment>
      <input
        type="range"
        min={1}
        max={100}
        value={percent}
        disabled={disabled}
        aria-label={`Share of model ${variant.model.slice(0, 8)} in percent`}
        onChange={event => set(Number(event.target.value))}
      />
      {percent !== variant.weight ? (
        <button className="jp-mlp-button" disabled={disabled} onClick={() => change(variant.model, percent, variant.weight)}>
          Set {percent} %
        </button>
      ) : null}
    </React.Fragment>
  );
}

/** Which of its models is better, as the newest monitoring said. */
function Verdict({ row }: { row: IRow }): JSX.Element {
  const lab = useLab();
  const [thing, error] = useRead<IThing>(() => lab.api.thing(row.ref), wakes, [row.ref]);
  const verdicts = thing?.details.verdicts ?? [];
  if (error) {
    return <p className="jp-mlp-error">{error}</p>;
  }
  return (
    <React.Fragment>
      {verdicts.map((sentence, place) => (
        <p key={place} className="jp-mlp-verdict">
          {clip(sentence, 600)}
        </p>
      ))}
      <p className="jp-mlp-quiet">
        {verdicts.length > 0 ? `Monitored ${ago(thing?.details.judged ?? row.at)}.` : 'Which model is better? Monitor says it, once outcomes are known.'}
      </p>
    </React.Fragment>
  );
}

function Lately({ name }: { name: string }): JSX.Element {
  const lab = useLab();
  const mine = (change: Change): boolean => change.changed === 'requests' && change.name === name;
  const [traffic, error] = useRead<ITraffic>(() => lab.api.traffic(name), mine, [name]);
  if (error) {
    return <p className="jp-mlp-error">{error}</p>;
  }
  if (!traffic) {
    return <p className="jp-mlp-quiet">Looking …</p>;
  }
  const most = Math.max(1, ...traffic.bars);
  const said =
    traffic.requests === 0
      ? 'no request in the last 5 minutes'
      : `${number(traffic.requests)} requests in 5 minutes, half in ${number(traffic.p50_ms ?? 0)} ms, 95 % in ${number(traffic.p95_ms ?? 0)} ms, ${number(traffic.errors)} errors`;
  return (
    <figure className="jp-mlp-traffic">
      <svg viewBox="0 0 240 32" role="img" aria-label={said} preserveAspectRatio="none">
        {traffic.bars.map((count, place) => (
          <rect key={place} x={place * 8} y={32 - (count / most) * 30} width={6} height={(count / most) * 30} />
        ))}
      </svg>
      <figcaption className={traffic.errors ? 'jp-mlp-error' : 'jp-mlp-quiet'}>{said}</figcaption>
    </figure>
  );
}
