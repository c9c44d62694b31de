/**
 * Catching up with the API server: it says which version is the present one, and everything up to that is told.
 *
 * Of a kind without news the watch does not come to that version before its next bookmark, a minute later. What fits on one page is
 * therefore listed, and the list is told. Of more, a second watch is opened that lasts three seconds: the server sends a bookmark two seconds
 * before a watch ends. Source: k8s.io/apiserver, storage/cacher, nextBookmarkTime().
 */

import type { ApiClient } from './api-client.ts';
import { ApiFailure } from './api-failure.ts';
import { PAGE_LIMIT, type Reflector } from './reflector.ts';

const SHORT_WATCH_MS = 3000;

/**
 * Resolves when everything that is in the API at the time of the call was told.
 *
 * @throws ApiFailure when that cannot be known; nothing when the signal ended it
 */
export async function catchUp(reflector: Reflector, api: Pick<ApiClient, 'list' | 'watch'>, signal: AbortSignal): Promise<void> {
  let lookedAgain = false;
  reflector.hurry();
  while (!signal.aborted) {
    if (reflector.phase === 'watching') {
      if (await reachPresent(reflector, api, signal)) return;
      continue;
    }
    if (reflector.phase === 'absent') {
      if (lookedAgain) return;
      lookedAgain = true;
      reflector.hurry();
    }
    await reflector.nextPhase(signal);
  }
}

/** Returns whether it is reached; else the reflector has begun anew meanwhile. */
async function reachPresent(reflector: Reflector, api: Pick<ApiClient, 'list' | 'watch'>, signal: AbortSignal): Promise<boolean> {
  const { round, resource } = reflector;
  const isSmall = reflector.objects <= PAGE_LIMIT;
  const page = await api.list(resource, { limit: isSmall ? PAGE_LIMIT : 1, continue: '' }, signal);
  const present = page.resourceVersion;
  const isOn = (): boolean => reflector.round === round && reflector.version !== undefined;
  const isReached = (): boolean => isOn() && (reflector.version as number) >= present;
  if (isOn() && !isReached() && isSmall && !page.continue) reflector.takeWhole(page);
  while (isOn() && !isReached() && !signal.aborted) await watchShortly(reflector, api, isReached, signal);
  return isReached();
}

async function watchShortly(
  reflector: Reflector,
  api: Pick<ApiClient, 'watch'>,
  isReached: () => boolean,
  signal: AbortSignal,
): Promise<void> {
  const enough = new AbortController();
  try {
    await api.watch(
      reflector.resource,
      { resourceVersion: reflector.version as number, lastMs: SHORT_WATCH_MS },
      {
        opened: () => {},
        event: (event) => {
          reflector.takeEvent(event);
          if (isReached()) enough.abort();
        },
      },
      AbortSignal.any([signal, enough.signal]),
    );
  } catch (error) {
    if (enough.signal.aborted) return;
    if (error instanceof ApiFailure && error.kind === 'expired') reflector.listAnew();
    else throw error;
  }
}
