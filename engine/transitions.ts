/**
 * State machines as tables: what each event leads to, in each state. The code goes through its table, and engine/README.md shows the
 * table; a test compares the two.
 */
export type Transitions<State extends string, Event extends string> = Readonly<Record<State, Readonly<Partial<Record<Event, State>>>>>;

/**
 * A state that changes by its table only.
 *
 * @example
 * const door = new StateMachine('door', { open: { close: 'shut' }, shut: { open: 'open' } }, 'shut');
 * door.allows('close') // false
 * door.on('open') // 'open'
 * door.state // 'open'
 */
export class StateMachine<State extends string, Event extends string> {
  readonly #name: string;
  readonly #transitions: Transitions<State, Event>;
  #state: State;

  constructor(name: string, transitions: Transitions<State, Event>, state: State) {
    this.#name = name;
    this.#transitions = transitions;
    this.#state = state;
  }

  get state(): State {
    return this.#state;
  }

  /** Whether the present state has a way for the event. */
  allows(event: Event): boolean {
    return this.#transitions[this.#state][event] !== undefined;
  }

  /** Goes the way of the event. @throws Error where the table has none: that is a fault of the program */
  on(event: Event): State {
    const next = this.#transitions[this.#state][event];
    if (next === undefined) throw new Error(`Cannot go on from state ${this.#state} of ${this.#name}: it has no way for ${event}`);
    this.#state = next;
    return next;
  }
}

/**
 * A table as lines of text, one for each way.
 *
 * @example
 * draw({ open: { close: 'shut' }, shut: { open: 'open' } }) // ['open ── close ──▶ shut', 'shut ── open ──▶ open']
 */
export function draw(transitions: Transitions<string, string>): string[] {
  return Object.entries(transitions).flatMap(([state, ways]) =>
    Object.entries(ways).map(([event, next]) => `${state} ── ${event} ──▶ ${next}`),
  );
}
