import SnabbVMCore

Launcher.main()
