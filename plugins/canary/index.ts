/** Sends canary users to the new version, by cookie or header, and everybody else to the stable one. */
import { Config, deny, HttpRequest, Policy, route, setCookie, Verdict } from '@sluice/plugin-sdk';

@policy({ name: 'canary', version: '1.1.0' })
export class Canary extends Policy {
  private cookieValue: string = 'v2';
  private headerValue: string = 'yes';
  private weight: u32 = 0;

  configure(config: Config): void {
    this.cookieValue = config.text('cookie', this.cookieValue);
    this.headerValue = config.text('header', this.headerValue);
    const weight = config.number('weight', 0);
    if (weight < 0 || weight > 100) throw new Error('weight must be 0 to 100');
    this.weight = <u32>weight;
  }

  @on('http')
  onRequest(request: HttpRequest): Verdict {
    const role = request.header('x-role');
    if (request.path.startsWith('/admin') && !role.equals('admin')) return deny('admin only');
    const mark = request.cookie('canary');
    if (mark.equals(this.cookieValue)) return route('canary');
    if (request.header('x-canary').equalsIgnoringCase(this.headerValue)) return route('canary');
    if (!this.weight || !mark.isEmpty) return route('stable');
    // Who has no mark gets one, so that the choice is made once.
    const chosen = <u32>(request.id % 100) < this.weight;
    setCookie('canary=' + (chosen ? this.cookieValue : 'stable') + '; Path=/; Max-Age=86400');
    return chosen ? route('canary') : route('stable');
  }
}
