/** Requests to the server extension. */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { ICluster, IDifference, IPage, ILineage, IScheduleCheck, IScheduleForm, IStarter, IThing, ITraffic, Kind } from './model';

const PREFIX = 'jupyter-mlp';

/** What the server refused: what is wrong, and what to try. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly hint: string,
    readonly status: number,
    readonly fields: Record<string, string> = {}
  ) {
    super(message);
  }
}

export class Api {
  readonly settings = ServerConnection.makeSettings();

  /** `rows`: of a page of a list. */
  constructor(private readonly rows: () => number = () => 10) {}

  list(kind: Kind, cursor = ''): Promise<IPage> {
    return this.get<IPage>(`list/${kind}`, { limit: String(this.rows()), ...(cursor ? { cursor } : {}) });
  }

  search(text: string): Promise<IPage> {
    return this.get<IPage>('search', { text });
  }

  thing(ref: string): Promise<IThing> {
    return this.get<IThing>('thing', { ref });
  }

  lineage(ref: string): Promise<ILineage> {
    return this.get<ILineage>('lineage', { ref });
  }

  traffic(name: string): Promise<ITraffic> {
    return this.get<ITraffic>('traffic', { name });
  }

  async clusters(): Promise<ICluster[]> {
    return (await this.get<{ clusters: ICluster[] }>('clusters', {})).clusters;
  }

  difference(before: string, after: string): Promise<IDifference> {
    return this.get<IDifference>('difference', { before, after });
  }

  starters(): Promise<{ starters: IStarter[] }> {
    return this.get<{ starters: IStarter[] }>('starters', {});
  }

  /** A starter as nbformat has it. */
  starter(name: string): Promise<unknown> {
    return this.get<unknown>('starter', { name });
  }

  /** The form that schedules the notebook of a session; which file that is the server knows. */
  scheduleForm(session: string): Promise<IScheduleForm> {
    return this.get<IScheduleForm>('schedule', { session });
  }

  checkSchedule(session: string, fields: Record<string, string>): Promise<IScheduleCheck> {
    return this.post<IScheduleCheck>('schedule', { ...fields, session, check: true });
  }

  makeSchedule(session: string, fields: Record<string, string>): Promise<{ name: string; next: string[] }> {
    return this.post<{ name: string; next: string[] }>('schedule', { ...fields, session });
  }

  async log(ref: string): Promise<string> {
    return (await this.get<{ log: string }>('log', { ref })).log;
  }

  /** Where the page of a report is; it is shown in a frame of its own, without scripts. */
  reportUrl(ref: string): string {
    return this.url('report', { ref });
  }

  verb(name: string, given: Record<string, unknown>): Promise<unknown> {
    return this.post<unknown>(`verb/${name}`, given);
  }

  get changesUrl(): string {
    const { wsUrl, token, appendToken } = this.settings;
    const query = appendToken && token ? URLExt.objectToQueryString({ token }) : '';
    return URLExt.join(wsUrl, PREFIX, 'changes') + query;
  }

  private get<T>(path: string, query: Record<string, string>): Promise<T> {
    return this.send<T>(this.url(path, query), {});
  }

  private post<T>(path: string, given: Record<string, unknown>): Promise<T> {
    return this.send<T>(this.url(path), { method: 'POST', body: JSON.stringify(given) });
  }

  private url(path: string, query: Record<string, string> = {}): string {
    return URLExt.join(this.settings.baseUrl, PREFIX, path) + URLExt.objectToQueryString(query);
  }

  private async send<T>(url: string, init: RequestInit): Promise<T> {
    const response = await ServerConnection.makeRequest(url, init, this.settings);
    const text = await response.text();
    let found: unknown;
    try {
      found = JSON.parse(text);
    } catch {
      throw new Refused(`The server answered ${response.status} and no JSON.`, 'Is the server extension jupyter_mlp enabled?', response.status);
    }
    if (!response.ok) {
      const said = found as { message?: string; hint?: string; fields?: Record<string, string> };
      throw new Refused(said.message ?? `The server answered ${response.status}.`, said.hint ?? '', response.status, said.fields);
    }
    return found as T;
  }
}
