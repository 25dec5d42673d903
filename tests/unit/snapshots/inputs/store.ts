import { Observable } from 'rxjs';

export interface State { readonly items: Item[]; readonly selected: string | null; readonly loading: boolean }

export type Reducer<S, A> = (state: S | undefined, action: A, context?: Context) => S;

export enum Status { Idle = 'idle', Loading = 'loading', Failed = 'failed', Ready = 'ready' }

@Injectable({ providedIn: 'root' })
export class Store<S extends State> implements Disposable {
  private readonly listeners = new Set<(state: S) => void>();

  constructor(private state: S, private readonly reducer: Reducer<S, Action>) {}

  @Memoize()
  select<T>(project: (state: S) => T): Observable<T> {
    return new Observable((subscriber) => subscriber.next(project(this.state)));
  }

  dispatch = (action: Action): void => {
    this.state = this.reducer(this.state, action);
    this.listeners.forEach((listener) => listener(this.state));
  };
}

export abstract class Effect {
  abstract run(action: Action, dispatch: (action: Action) => void): Promise<void> | void;
}

namespace Legacy {
  export function migrate(state: unknown): State {
    return { items: [], selected: null, loading: false, ...(state as object) };
  }
}

export const useStore = <S extends State>(initial: S) => new Store(initial, (state) => state ?? initial);
