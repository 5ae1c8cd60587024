/** The logic of the schedule form: which cron line a choice means, and what is sent. */
import { IParameter, IScheduleForm } from './model';

export type Fields = Record<string, string>;

/** The choices, and the cron line that each writes; what fits none is a line of one's own. */
export const EVERY: [string, string][] = [
  ['hour', '0 * * * *'],
  ['day, 3 in the morning', '0 3 * * *'],
  ['weekday, 6 in the morning', '0 6 * * 1-5'],
  ['week, Monday 3 in the morning', '0 3 * * 1'],
  ['month, on the first', '0 3 1 * *']
];

/** The choice that a cron line is; empty for one of one's own. */
export function chosen(cron: string): string {
  return EVERY.find(([, line]) => line === cron.trim())?.[1] ?? '';
}

/** What the form says at first. */
export function first(form: IScheduleForm): Fields {
  const { name, cron, on, tz, catch_up, retries, backoff, timeout, max_running, notify } = form;
  const given = Object.fromEntries(form.parameters.map(one => [key(one), one.value || shownDefault(one)]));
  return { name, cron, on, tz, catch_up, retries, backoff, timeout, max_running, notify, ...given };
}

export function key(parameter: IParameter): string {
  return `parameters.${parameter.name}`;
}

/** What is sent: parameters that are as the notebook has them stay the notebook's, whatever it says later. */
export function sent(form: IScheduleForm, fields: Fields, byTable: boolean): Fields {
  const left = new Set(form.parameters.filter(one => (fields[key(one)] ?? '') === shownDefault(one)).map(key));
  left.add(byTable ? 'cron' : 'on');
  return Object.fromEntries(Object.entries(fields).filter(([name]) => !left.has(name)));
}

function shownDefault(parameter: IParameter): string {
  return parameter.default === 'None' ? '' : parameter.default;
}
