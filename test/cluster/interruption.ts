/** Ctrl-C and the like: the first one ends what is done and has everything taken away; another one finds that under way. */

/** A signal that is aborted by the first of SIGINT, SIGTERM and SIGHUP; `told` is called then. */
export function interruption(told: () => void): { readonly signal: AbortSignal } {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(name, () => {
      if (controller.signal.aborted) return;
      told();
      controller.abort(new Error(`ended by ${name}`));
    });
  return controller;
}
