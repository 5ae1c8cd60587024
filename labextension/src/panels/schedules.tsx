/** Schedules: when each runs next and how its last runs went; run now, pause, resume, remove. */
import * as React from 'react';

import { Rows } from '../components/list';
import { Row } from '../components/row';
import { useLab, useListing } from '../context';
import { Change, IRow, ITick } from '../model';
import { ago, clip, until } from '../texts';

const wakes = (change: Change): boolean => change.changed === 'records';

export function Schedules(): JSX.Element {
  const lab = useLab();
  const [schedules, reader] = useListing(cursor => lab.api.list('schedule', cursor), wakes);
  if (schedules.loaded && !schedules.error && schedules.rows.length === 0) {
    return (
      <div className="jp-mlp-empty">
        <p>No notebook runs by itself yet. Fill in a form for the open one:</p>
        <button className="jp-mlp-button" onClick={() => lab.schedule()}>
          Schedule this notebook …
        </button>
      </div>
    );
  }
  return (
    <React.Fragment>
      <Rows name="schedules" listing={schedules} further={() => void reader.further()} row={row => <ScheduleRow key={row.name} row={row} />} />
      <button className="jp-mlp-button jp-mlp-more" onClick={() => lab.schedule()}>
        Schedule this notebook …
      </button>
    </React.Fragment>
  );
}

export function ScheduleRow({ row }: { row: IRow }): JSX.Element {
  const lab = useLab();
  const [asking, ask] = React.useState(false);
  const verb = (what: Record<string, boolean>): void => {
    ask(true);
    void lab.api
      .verb('schedules', { name: row.name, ...what })
      .catch(lab.say)
      .finally(() => ask(false));
  };
  const remove = async (): Promise<void> => {
    if (await lab.sure('Remove this schedule?', `${row.name}: it is due no longer. What its runs made stays.`, 'Remove it')) {
      verb({ remove: true });
    }
  };
  const ticks = row.ticks ?? [];
  const paused = row.state === 'paused';
  return (
    <Row
      row={{ ...row, detail: `${row.detail ?? ''} · ${row.notebook}` }}
      state={paused ? 'paused' : (ticks[0]?.state ?? '')}
      when={paused ? '' : row.coming ? until(row.coming) : ''}
      recorded={false}
      actions={
        <React.Fragment>
          <button className="jp-mlp-button" disabled={asking} onClick={() => verb({ run: true })}>
            Run now
          </button>
          <button className="jp-mlp-button" disabled={asking} onClick={() => verb(paused ? { resume: true } : { pause: true })}>
            {paused ? 'Resume' : 'Pause'}
          </button>
          <button className="jp-mlp-button jp-mlp-warn" disabled={asking} onClick={() => void remove()}>
            Remove
          </button>
        </React.Fragment>
      }
    >
      <dl className="jp-mlp-facts">
        <dt>next</dt>
        <dd>{paused ? 'paused' : row.coming ? new Date(row.coming * 1000).toLocaleString() : 'when the table has a new version'}</dd>
        <dt>parameters</dt>
        <dd>{clip(Object.entries(row.given ?? {}).map(([name, value]) => `${name}=${value}`).join(', ') || 'the defaults', 300)}</dd>
        {row.retries ? <dt>retries</dt> : null}
        {row.retries ? <dd>{row.retries}</dd> : null}
        <dt>told</dt>
        <dd>{row.notify ? `${row.notify} of failures and recovery` : 'nobody'}</dd>
      </dl>
      {ticks.length === 0 ? <p className="jp-mlp-quiet">It has not been due yet.</p> : null}
      <ul className="jp-mlp-ticks" aria-label="Last runs">
        {ticks.map(tick => (
          <Tick key={tick.tick} tick={tick} title={row.title} />
        ))}
      </ul>
    </Row>
  );
}

function Tick({ tick, title }: { tick: ITick; title: string }): JSX.Element {
  const lab = useLab();
  const { run } = tick;
  const asked = tick.tick.startsWith('asked ');
  return (
    <li title={tick.tick}>
      <span className={`jp-mlp-state jp-mlp-is-${tick.state}`}>{tick.state}</span> {asked ? 'asked for ' : ''}
      {ago(tick.due)}
      {tick.seconds !== null ? `, took ${tick.seconds.toFixed(1)} s` : ''}
      {tick.attempt > 1 ? `, attempt ${tick.attempt}` : ''}{' '}
      {run ? (
        <button className="jp-mlp-link" onClick={() => lab.openReport(run, `${title} ${tick.tick}`)}>
          open the executed notebook
        </button>
      ) : null}
      {tick.error && tick.state !== 'finished' ? <p className="jp-mlp-error">{clip(tick.error, 400)}</p> : null}
    </li>
  );
}
