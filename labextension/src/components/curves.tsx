/** Curves of a run, or of several beside each other: one small picture a metric. */
import * as React from 'react';

import { Series } from '../model';
import { number } from '../texts';

const WIDTH = 240;
const HEIGHT = 64;
const EDGE = 4;

export interface INamedSeries {
  label: string;
  series: Series;
}

/** The points of a line in the picture, as SVG writes them. */
export function line(points: readonly [number, number][], box: { x: [number, number]; y: [number, number] }): string {
  const place = (value: number, [low, high]: [number, number], length: number): number =>
    EDGE + (high > low ? (value - low) / (high - low) : 0.5) * (length - 2 * EDGE);
  return points
    .filter(([, y]) => Number.isFinite(y))
    .map(([x, y]) => `${place(x, box.x, WIDTH).toFixed(1)},${(HEIGHT - place(y, box.y, HEIGHT)).toFixed(1)}`)
    .join(' ');
}

export function Curves({ runs }: { runs: INamedSeries[] }): JSX.Element {
  const names = Array.from(new Set(runs.flatMap(run => Object.keys(run.series)))).sort();
  const drawn = names.filter(name => runs.some(run => (run.series[name]?.length ?? 0) > 1));
  return (
    <div className="jp-mlp-curves">
      {drawn.map(name => (
        <Curve key={name} name={name} lines={runs.map(run => ({ label: run.label, points: run.series[name] ?? [] }))} />
      ))}
    </div>
  );
}

function Curve({ name, lines }: { name: string; lines: { label: string; points: [number, number][] }[] }): JSX.Element {
  const all = lines.flatMap(one => one.points).filter(([, y]) => Number.isFinite(y));
  const xs = all.map(([x]) => x);
  const ys = all.map(([, y]) => y);
  const box: { x: [number, number]; y: [number, number] } = { x: [Math.min(...xs), Math.max(...xs)], y: [Math.min(...ys), Math.max(...ys)] };
  const ends = lines.filter(one => one.points.length > 0).map(one => number(one.points[one.points.length - 1]?.[1] ?? NaN));
  return (
    <figure className="jp-mlp-curve">
      <figcaption>
        {name} <b>{ends.join(' / ')}</b>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`${name}, now ${ends.join(' and ')}, from ${number(box.y[0])} to ${number(box.y[1])}`}>
        {lines.map((one, place) => (
          <polyline key={one.label} className={`jp-mlp-line-${place % 4}`} points={line(one.points, box)}>
            <title>{one.label}</title>
          </polyline>
        ))}
      </svg>
      <div className="jp-mlp-scale" aria-hidden="true">
        <span>{number(box.y[1])}</span>
        <span>{number(box.y[0])}</span>
      </div>
    </figure>
  );
}
