/** The form that schedules a notebook; what is wrong with a field stands below it while it is filled in. */
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Api, Refused } from './api';
import { said } from './context';
import { chosen, EVERY, Fields, first, key, sent } from './fields';
import { IParameter, IScheduleCheck, IScheduleForm } from './model';

const WAIT_MS = 300;
const NOTHING: IScheduleCheck = { fields: {}, next: [] };

export class ScheduleForm extends ReactWidget {
  constructor(
    private readonly api: Api,
    private readonly session: string,
    private readonly form: IScheduleForm,
    private readonly done: (said: string) => void
  ) {
    super();
    this.addClass('jp-mlp-form');
    this.node.tabIndex = -1;
  }

  protected override render(): JSX.Element {
    return <Form api={this.api} session={this.session} form={this.form} done={this.done} />;
  }
}

interface IFormProps {
  api: Api;
  session: string;
  form: IScheduleForm;
  done: (said: string) => void;
}

function Form({ api, session, form, done }: IFormProps): JSX.Element {
  const [fields, set] = React.useState<Fields>(() => first(form));
  const [byTable, choose] = React.useState(form.on !== '');
  const [checked, show] = React.useState<IScheduleCheck>(NOTHING);
  const [error, complain] = React.useState('');
  const [asking, ask] = React.useState(false);
  const given = sent(form, fields, byTable);
  const told = JSON.stringify(given);
  React.useEffect(() => {
    let newest = true;
    const timer = window.setTimeout(() => {
      api.checkSchedule(session, given).then(
        found => {
          if (newest) {
            show(found);
            complain('');
          }
        },
        (refused: unknown) => newest && complain(said(refused))
      );
    }, WAIT_MS);
    return () => {
      newest = false;
      window.clearTimeout(timer);
    };
  }, [told]);
  const submit = async (event: React.FormEvent): Promise<void> => {
    event.preventDefault();
    ask(true);
    try {
      const made = await api.makeSchedule(session, given);
      done(made.next[0] ? `${made.name} runs next at ${made.next[0]}` : `${made.name} runs when the table has a new version`);
    } catch (refused) {
      if (refused instanceof Refused && Object.keys(refused.fields).length > 0) {
        show({ fields: refused.fields, next: [] });
      } else {
        complain(said(refused));
      }
    } finally {
      ask(false);
    }
  };
  const field = (name: string): IFieldProps => ({
    name,
    value: fields[name] ?? '',
    wrong: checked.fields[name] ?? '',
    change: value => set(now => ({ ...now, [name]: value }))
  });
  return (
    <form className="jp-mlp-schedule" onSubmit={event => void submit(event)} noValidate>
      <h2>
        {form.exists ? 'Change the schedule of' : 'Schedule'} <bdi>{form.notebook}</bdi>
      </h2>
      <p className="jp-mlp-quiet">It runs from top to bottom in a process of its own, without JupyterLab and its kernel, and each run is recorded.</p>
      <Text {...field('name')} label="Name" />
      <fieldset>
        <legend>When</legend>
        <div className="jp-mlp-choices">
          <label>
            <input type="radio" name="jp-mlp-when" checked={!byTable} onChange={() => choose(false)} /> at times
          </label>
          <label>
            <input type="radio" name="jp-mlp-when" checked={byTable} onChange={() => choose(true)} /> for every new version of a table
          </label>
        </div>
        {byTable ? <Text {...field('on')} label="Table" options={form.tables} /> : <Times cron={field('cron')} tz={field('tz')} next={checked.next} />}
      </fieldset>
      {form.parameters.length > 0 ? (
        <fieldset>
          <legend>Parameters</legend>
          {form.parameters.map(one => (
            <Parameter key={one.name} parameter={one} field={field(key(one))} />
          ))}
        </fieldset>
      ) : (
        <p className="jp-mlp-quiet">It has no parameters. A cell tagged `parameters` that sets defaults declares them.</p>
      )}
      <fieldset>
        <legend>When it fails</legend>
        <Text {...field('retries')} label="Retries" help="attempts after a failure" />
        <Text {...field('backoff')} label="Wait before the first" help="30s, 5min, 2h; doubled each time" />
        <Text {...field('timeout')} label="Time limit" help="a run that takes longer has failed; empty for none" />
        <Area {...field('notify')} label="Tell" help="one a line: https://…, mailto:NAME@HOST, command:PROGRAM" />
      </fieldset>
      <fieldset>
        <legend>What was missed</legend>
        <Choice {...field('catch_up')} label="After a pause, run" options={[['latest', 'the latest'], ['all', 'all of it'], ['skip', 'none of it']]} />
        <Text {...field('max_running')} label="At the same time" help="runs of it, at most" />
      </fieldset>
      {error ? (
        <p className="jp-mlp-error" role="alert">
          {error}
        </p>
      ) : null}
      <button type="submit" className="jp-mlp-submit jp-mod-styled jp-mod-accept" disabled={asking || Object.keys(checked.fields).length > 0}>
        {form.exists ? 'Change the schedule' : 'Schedule'}
      </button>
    </form>
  );
}

interface IFieldProps {
  name: string;
  value: string;
  wrong: string;
  change: (value: string) => void;
}

function Times({ cron, tz, next }: { cron: IFieldProps; tz: IFieldProps; next: string[] }): JSX.Element {
  const zones = React.useMemo(() => Intl.supportedValuesOf('timeZone'), []);
  const every: [string, string][] = [...EVERY.map(([label, line]): [string, string] => [line, label]), ['', 'as the cron line says']];
  return (
    <React.Fragment>
      <Choice
        name="every"
        label="Every"
        value={chosen(cron.value)}
        wrong=""
        options={every}
        change={line => cron.change(line || cron.value.trim() + ' ')}
      />
      <Text {...cron} label="Cron line" help="minute, hour, day of month, month, day of week" />
      <Text {...tz} label="Time zone" options={zones} />
      <p className="jp-mlp-quiet" aria-live="polite">
        {next.length > 0 ? `Next: ${next.map(moment => moment.replace('T', ' ')).join(', ')}` : ' '}
      </p>
    </React.Fragment>
  );
}

function Parameter({ parameter, field }: { parameter: IParameter; field: IFieldProps }): JSX.Element {
  const label = parameter.name;
  if (parameter.type === 'bool') {
    return <Choice {...field} label={label} options={[['True', 'True'], ['False', 'False']]} />;
  }
  return <Text {...field} label={label} help={`${parameter.type ?? 'any value'}, ${parameter.default} when left as it is`} />;
}

function Text({ label, help, options, ...field }: IFieldProps & { label: string; help?: string; options?: string[] }): JSX.Element {
  const list = options ? `jp-mlp-list-${field.name}` : undefined;
  return (
    <Labelled {...field} label={label} help={help}>
      <input {...said_of(field)} type="text" list={list} value={field.value} onChange={event => field.change(event.target.value)} />
      {options ? (
        <datalist id={list}>
          {options.map(one => (
            <option key={one} value={one} />
          ))}
        </datalist>
      ) : null}
    </Labelled>
  );
}

function Area({ label, help, ...field }: IFieldProps & { label: string; help?: string }): JSX.Element {
  return (
    <Labelled {...field} label={label} help={help}>
      <textarea {...said_of(field)} rows={2} value={field.value} onChange={event => field.change(event.target.value)} />
    </Labelled>
  );
}

function Choice({ label, options, ...field }: IFieldProps & { label: string; options: [string, string][] }): JSX.Element {
  return (
    <Labelled {...field} label={label}>
      <select {...said_of(field)} value={field.value} onChange={event => field.change(event.target.value)}>
        {options.map(([value, shown]) => (
          <option key={value} value={value}>
            {shown}
          </option>
        ))}
      </select>
    </Labelled>
  );
}

/** What ties an input to its label and to what is wrong with it. */
function said_of(field: IFieldProps): Record<string, unknown> {
  const id = `jp-mlp-field-${field.name}`;
  return { id, name: field.name, 'aria-invalid': field.wrong !== '', 'aria-describedby': `${id}-said`, spellCheck: false, autoComplete: 'off' };
}

function Labelled({ name, wrong, label, help, children }: IFieldProps & { label: string; help?: string; children: React.ReactNode }): JSX.Element {
  const id = `jp-mlp-field-${name}`;
  return (
    <div className={wrong ? 'jp-mlp-field jp-mlp-wrong' : 'jp-mlp-field'}>
      <label htmlFor={id}>{label}</label>
      {children}
      <span id={`${id}-said`} className={wrong ? 'jp-mlp-error' : 'jp-mlp-quiet'} role={wrong ? 'alert' : undefined}>
        {wrong || help || ''}
      </span>
    </div>
  );
}
