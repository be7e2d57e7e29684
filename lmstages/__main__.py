from lmstages.cli import console

console()
