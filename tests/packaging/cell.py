"""Run one cell in a lab, from inside the booted system: cell.py PORT BASE_URL TOKEN KERNEL CODE [HOST].

A KERNEL of "new" starts one. Prints the kernel's id and what came of the cell.
"""

import json
import sys

from rig.browser import Browser

port, base_url, token, kernel, code, *host = sys.argv[1:]
browser = Browser(int(port), base_url, *host)
browser.follow_link(token)
if kernel == "new":
    kernel = browser.start_kernel()
print(json.dumps([kernel, browser.execute(kernel, code)]))
