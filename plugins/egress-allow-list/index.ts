/** Lets pods reach only listed destinations, by label and port. */
import { allow, Config, Connection, deny, Policy, Verdict } from '@sluice/plugin-sdk';

class Destination {
  constructor(public key: string, public value: string, public port: i32) {}
}

@policy({ name: 'egress-allow-list', version: '1.0.0' })
export class EgressAllowList extends Policy {
  private listed: Destination[] = [];
  private ttlMs: u32 = 30000;

  configure(config: Config): void {
    this.ttlMs = <u32>config.number('ttlSeconds', 30) * 1000;
    for (let i = 0; i < config.count('allow'); i++) {
      const label = config.text(`allow.${i}.label`).split('=');
      if (label.length != 2) throw new Error(`allow.${i}.label must be key=value`);
      this.listed.push(new Destination(label[0], label[1], <i32>config.number(`allow.${i}.port`, 0)));
    }
  }

  @on('connect')
  onConnect(connection: Connection): Verdict {
    for (let i = 0; i < this.listed.length; i++) {
      const listed = this.listed[i];
      if (connection.port == listed.port && connection.destination.label(listed.key).equals(listed.value)) return allow().perIdentity(this.ttlMs);
    }
    return deny('destination is not listed').perIdentity(this.ttlMs);
  }
}
