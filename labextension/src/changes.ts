/** The stream of changes: one socket a tab, opened again with growing pauses when it breaks. */
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';

import { Api } from './api';
import { Change } from './model';

const SHORTEST_MS = 1000;
const LONGEST_MS = 30000;

/** The pause before the next attempt, after so many that failed. */
export function pause(failed: number): number {
  return Math.min(LONGEST_MS, SHORTEST_MS * 2 ** failed);
}

export class Changes implements IDisposable {
  private readonly _changed = new Signal<this, Change>(this);
  private readonly _connected = new Signal<this, boolean>(this);
  private _isReady: () => void = () => undefined;
  private readonly _ready = new Promise<void>(resolve => (this._isReady = resolve));
  private _lost = false;
  private _socket: WebSocket | null = null;
  private _failed = 0;
  private _timer = 0;
  private _disposed = false;

  constructor(private readonly api: Api) {}

  get changed(): ISignal<this, Change> {
    return this._changed;
  }

  /** When the stream was opened, or could not be: what is read from then on misses no change. */
  get ready(): Promise<void> {
    return this._ready;
  }

  /** True when a stream that was lost begins again: what was missed must be read anew. */
  get connected(): ISignal<this, boolean> {
    return this._connected;
  }

  get isDisposed(): boolean {
    return this._disposed;
  }

  open(): void {
    if (this._socket || this._disposed) {
      return;
    }
    const socket = new this.api.settings.WebSocket(this.api.changesUrl);
    this._socket = socket;
    socket.onopen = () => {
      this._failed = 0;
      this._isReady();
      if (this._lost) {
        this._lost = false;
        this._connected.emit(true);
      }
    };
    socket.onmessage = (event: MessageEvent<string>) => this._changed.emit(JSON.parse(event.data) as Change);
    socket.onclose = () => {
      this._socket = null;
      this._lost = true;
      this._isReady();
      if (!this._disposed) {
        this._connected.emit(false);
        this._timer = window.setTimeout(() => this.open(), pause(this._failed++));
      }
    };
  }

  dispose(): void {
    this._disposed = true;
    window.clearTimeout(this._timer);
    this._socket?.close();
    Signal.clearData(this);
  }
}
