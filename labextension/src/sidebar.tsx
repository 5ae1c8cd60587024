/** The sidebar: a search over everything, and the panels in the order of the flow. */
import { ReactWidget, refreshIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

import { ILab, LabProvider } from './context';
import { icon } from './icon';
import { DataPanel } from './panels/data';
import { EndpointsPanel } from './panels/endpoints';
import { Found } from './panels/found';
import { ModelsPanel } from './panels/models';
import { PipelinesPanel } from './panels/pipelines';
import { RunsPanel } from './panels/runs';
import { SnapshotsPanel } from './panels/snapshots';

export class Sidebar extends ReactWidget {
  private seen = false;
  private ready = false;

  constructor(private readonly lab: ILab) {
    super();
    this.id = 'jupyter-mlp';
    this.title.icon = icon;
    this.title.caption = 'Machine learning: data, runs, models, endpoints, snapshots, schedules';
    this.addClass('jp-mlp-sidebar');
  }

  /** Nothing is asked of the server before somebody looks. */
  protected override onBeforeShow(): void {
    if (!this.seen) {
      this.seen = true;
      void this.lab.started.then(() => {
        this.ready = true;
        this.lab.changes.open();
        this.update();
      });
    }
  }

  protected override render(): JSX.Element | null {
    return this.ready ? (
      <LabProvider value={this.lab}>
        <Everything />
      </LabProvider>
    ) : null;
  }
}

const PANELS = [DataPanel, RunsPanel, ModelsPanel, EndpointsPanel, SnapshotsPanel, PipelinesPanel];

/** Each panel in a task of its own, so that the page answers to its user while the sidebar opens. */
function OneByOne({ panels }: { panels: (() => JSX.Element)[] }): JSX.Element {
  const [count, grow] = React.useState(1);
  React.useEffect(() => {
    const timer = count < panels.length ? window.setTimeout(() => grow(count + 1)) : 0;
    return () => window.clearTimeout(timer);
  }, [count]);
  return (
    <React.Fragment>
      {panels.slice(0, count).map((Panel, place) => (
        <Panel key={place} />
      ))}
    </React.Fragment>
  );
}

function Everything(): JSX.Element {
  const [text, setText] = React.useState('');
  const [round, again] = React.useState(0);
  return (
    <React.Fragment>
      <div className="jp-mlp-top">
        <input
          className="jp-mlp-search"
          type="search"
          placeholder="Search everything"
          aria-label="Search everything"
          value={text}
          onChange={event => setText(event.target.value)}
        />
        <button className="jp-mlp-icon" title="Read everything again" aria-label="Read everything again" onClick={() => again(round + 1)}>
          <refreshIcon.react tag="span" width="16px" height="16px" />
        </button>
      </div>
      <div className="jp-mlp-panels" key={round}>
        {text.trim() ? (
          <Found text={text} />
        ) : (
          <OneByOne panels={PANELS} />
        )}
      </div>
    </React.Fragment>
  );
}
