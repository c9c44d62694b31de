/** Denies a source that tries too many ports that are closed here, and says which. */
import { allow, Config, Connection, Counters, deny, key, log, next, Policy, Verdict } from '@sluice/plugin-sdk';

/** How many closed ports a source has tried, which one was its n-th, and whether one is counted already. */
const tried = new Counters('tried', 4096);
const nth = new Counters('nth', 16384);
const seen = new Counters('seen', 65536);

@policy({ name: 'port-scan', version: '1.0.0' })
export class PortScan extends Policy {
  private open: i32[] = [];
  private limit: i32 = 10;
  private windowMs: u64 = 60000;

  configure(config: Config): void {
    const open = config.list('open');
    for (let i = 0; i < open.length; i++) this.open.push(<i32>parseInt(open[i]));
    this.limit = <i32>config.number('ports', 10);
    this.windowMs = <u64>config.number('seconds', 60) * 1000;
    if (!this.open.length) throw new Error('open must list the ports that are served, such as open: [80, 443]');
    if (this.limit < 1 || this.limit > 32 || !this.windowMs) throw new Error('ports must be 1 to 32, seconds at least 1');
  }

  @on('connect')
  onConnect(connection: Connection): Verdict {
    const window = connection.timeMs / this.windowMs;
    const source = connection.source.address;
    const port = connection.port;
    if (!this.open.includes(port) && seen.add(key().address(source).number(window).number(port)) == 1) {
      const count = tried.add(key().address(source).number(window));
      nth.add(key().address(source).number(window).number(count), port);
      if (count == this.limit) log(`port scan by ${source.toString()}`);
    }
    // A source stays denied until the window after the one in which it was caught has passed.
    if (this.isCaught(connection, window)) return deny(this.describe(connection, window));
    if (this.isCaught(connection, window - 1)) return deny(this.describe(connection, window - 1));
    return this.open.includes(port) ? allow() : next();
  }

  private isCaught(connection: Connection, window: u64): bool {
    return tried.get(key().address(connection.source.address).number(window)) >= this.limit;
  }

  private describe(connection: Connection, window: u64): string {
    let ports = '';
    for (let i = 1; i <= this.limit; i++) {
      const port = nth.get(key().address(connection.source.address).number(window).number(i));
      if (port) ports += (ports.length ? ',' : '') + port.toString();
    }
    return 'port scan: ' + ports;
  }
}
