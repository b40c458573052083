"""`python app.py` is `t2v app`."""

import sys

from t2v.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "app")
    main()
