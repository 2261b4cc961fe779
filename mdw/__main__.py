from mdw.cli import main

main()
