/** A rule's list of server names: what policy decides without a plugin by the hello of TLS. */
import { coveringPatterns } from '../policy/domain-name.ts';
import type { ServerNames } from '../policy/objects.ts';

/** Why a list refuses a hello; undefined when it allows it. */
export function refuseHello(
  list: ServerNames,
  hello: { readonly serverName: string; readonly encryptedHello: boolean },
): string | undefined {
  if (hello.encryptedHello && !list.allowEncrypted) return 'the client hello may be encrypted (ECH), and the rule does not allow that';
  if (!hello.serverName) return list.allowMissing ? undefined : 'the client names no server, and the rule does not allow that';
  if (coveringPatterns(hello.serverName).some((pattern) => list.patterns.includes(pattern))) return undefined;
  return `server name ${hello.serverName} is not in the rule's list`;
}
