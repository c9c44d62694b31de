/** States that change only along the arrows of a table: what is drawn beside a machine is what it does. */
export type Arrows<S extends string> = { readonly [From in S]: readonly S[] };

/** The next state. @throws Error where no arrow leads there: a defect of the machine, whatever its peers do */
export function follow<S extends string>(arrows: Arrows<S>, from: S, to: S): S {
  if (!arrows[from].includes(to)) throw new Error(`no arrow leads from ${from} to ${to}`);
  return to;
}
