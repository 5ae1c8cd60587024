/** What every panel needs: the server, its changes, and the notebook. */
import { createContext, useContext, useEffect, useRef, useState } from 'react';

import { Api, Refused } from './api';
import { Changes } from './changes';
import { IListing, Listing } from './listing';
import { Change, IPage } from './model';

export interface ILab {
  api: Api;
  /** When JupyterLab stands there and its first work is done: nobody waits longer for it because of us. */
  started: Promise<void>;
  changes: Changes;
  /** Write a cell, and run it where asked. */
  insert(cell: string, run?: boolean): void;
  copy(text: string): void;
  /** Show the page of a report beside the notebook. */
  openReport(ref: string, title: string): void;
  /** Show an executed notebook: its file, where JupyterLab shows it, else as a page. */
  openExecuted(ref: string, title: string, path: string): void;
  /** Ask before something that others notice; true when it may be done. */
  sure(title: string, body: string, button: string): Promise<boolean>;
  /** Open the form that schedules the notebook in front. */
  schedule(): void;
  say(error: unknown): void;
}

const Context = createContext<ILab | null>(null);
export const LabProvider = Context.Provider;

export function useLab(): ILab {
  const lab = useContext(Context);
  if (!lab) {
    throw new Error('A panel outside the sidebar.');
  }
  return lab;
}

/** A list that is read when it is shown, and again when something changes. */
export function useListing(read: (cursor: string) => Promise<IPage>, wakes: (change: Change) => boolean): [IListing, Listing] {
  const { changes } = useLab();
  const [state, show] = useState<IListing>({ rows: [], more: false, loading: false, loaded: false, error: '' });
  const listing = useRef<Listing | null>(null);
  listing.current ??= new Listing(read, show);
  const own = listing.current;
  useEffect(() => {
    const hear = (_: unknown, change: Change): void => {
      own.hear(change);
      if (wakes(change)) {
        void own.refresh();
      }
    };
    const connect = (_: unknown, connected: boolean): void => {
      if (connected) {
        void own.refresh();
      }
    };
    changes.changed.connect(hear);
    changes.connected.connect(connect);
    void changes.ready.then(() => own.refresh());
    return () => {
      changes.changed.disconnect(hear);
      changes.connected.disconnect(connect);
    };
  }, [own]);
  return [state, own];
}

/** What one request gives: read when it is shown, and again when `wakes` says so. */
export function useRead<T>(read: () => Promise<T>, wakes: (change: Change) => boolean, keys: unknown[]): [T | null, string] {
  const { changes } = useLab();
  const [found, show] = useState<T | null>(null);
  const [error, complain] = useState('');
  useEffect(() => {
    let shown = true;
    const look = (): void => {
      read().then(
        value => {
          if (shown) {
            show(value);
            complain('');
          }
        },
        (refused: unknown) => shown && complain(said(refused))
      );
    };
    const hear = (_: unknown, change: Change): void => {
      if (wakes(change)) {
        look();
      }
    };
    changes.changed.connect(hear);
    look();
    return () => {
      shown = false;
      changes.changed.disconnect(hear);
    };
  }, keys);
  return [found, error];
}

/** What one request gives: read when it is shown, and some time after something changed while the page is looked at. */
export function useSometimes<T>(read: () => Promise<T>, pauseMs: number): [T | null, string] {
  const { changes } = useLab();
  const [round, again] = useState(0);
  useEffect(() => {
    let timer = 0;
    const hear = (): void => {
      if (!timer && !document.hidden) {
        timer = window.setTimeout(() => {
          timer = 0;
          again(before => before + 1);
        }, pauseMs);
      }
    };
    changes.changed.connect(hear);
    document.addEventListener('visibilitychange', hear);
    return () => {
      window.clearTimeout(timer);
      changes.changed.disconnect(hear);
      document.removeEventListener('visibilitychange', hear);
    };
  }, [changes]);
  return useRead<T>(read, () => false, [round]);
}

/** An error in two lines, as the server said it. */
export function said(error: unknown): string {
  if (error instanceof Refused) {
    return error.hint ? `${error.message}\n${error.hint}` : error.message;
  }
  return error instanceof Error ? error.message : String(error);
}
