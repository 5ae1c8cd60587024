/** How things are said: times, numbers, and texts of any length. */

const UNITS: [string, number][] = [
  ['d', 86400],
  ['h', 3600],
  ['min', 60]
];

/** How long ago a moment (seconds since 1970) was. */
export function ago(at: number, now = Date.now() / 1000): string {
  const seconds = Math.max(0, now - at);
  const unit = UNITS.find(([, length]) => seconds >= length);
  return unit ? `${Math.floor(seconds / unit[1])} ${unit[0]} ago` : 'now';
}

/** How long until a moment (seconds since 1970). */
export function until(at: number, now = Date.now() / 1000): string {
  const seconds = Math.max(0, at - now);
  const unit = UNITS.find(([, length]) => seconds >= length);
  return unit ? `in ${Math.floor(seconds / unit[1])} ${unit[0]}` : 'within a minute';
}

/** A number as a person reads it. */
export function number(value: number): string {
  if (Number.isInteger(value)) {
    return value.toLocaleString('en');
  }
  return Math.abs(value) >= 1000 ? value.toLocaleString('en', { maximumFractionDigits: 1 }) : String(Number(value.toPrecision(4)));
}

/** A text of at most so many characters; the whole of it is for the title. */
export function clip(text: string, longest = 120): string {
  const letters = Array.from(text);
  return letters.length > longest ? letters.slice(0, longest - 1).join('') + '…' : text;
}

/** A value of a table's cell. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) {
    return '–';
  }
  return typeof value === 'number' ? (Number.isInteger(value) ? String(value) : number(value)) : typeof value === 'string' ? value : JSON.stringify(value);
}
