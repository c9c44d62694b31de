/**
 * State machines as tables: what each event leads to, in each state. The code goes by its table, and beside the table it is drawn, an arrow
 * a line: `from -> to`, the events that lead there, and what there is to say about them. A test compares each drawing with its table.
 */
export type Transitions<State extends string, Event extends string> = Readonly<Record<State, Readonly<Partial<Record<Event, State>>>>>;

/**
 * The state that an event leads to. @throws Error where the table has none: that is a fault of the program, whatever its peers do
 *
 * @example
 * next({ open: { close: 'shut' }, shut: { open: 'open' } }, 'open', 'close') // 'shut'
 */
export function next<State extends string, Event extends string>(
  transitions: Transitions<State, Event>,
  state: State,
  event: Event,
): State {
  const to = transitions[state][event];
  if (to === undefined) throw new Error(`Cannot go on from state ${state}: there is no way for ${event}`);
  return to;
}

/**
 * A state that changes by its table only.
 *
 * @example
 * const door = new StateMachine({ open: { close: 'shut' }, shut: { open: 'open' } }, 'shut');
 * door.on('open') // 'open'
 * door.state // 'open'
 */
export class StateMachine<State extends string, Event extends string> {
  readonly #transitions: Transitions<State, Event>;
  #state: State;

  constructor(transitions: Transitions<State, Event>, state: State) {
    this.#transitions = transitions;
    this.#state = state;
  }

  get state(): State {
    return this.#state;
  }

  /** Goes the way of the event. @throws Error where the table has none: that is a fault of the program */
  on(event: Event): State {
    this.#state = next(this.#transitions, this.#state, event);
    return this.#state;
  }
}
