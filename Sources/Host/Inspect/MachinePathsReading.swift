import Model
import System

extension MachinePaths {
    /// From the folder and the environment in which the launcher was started.
    package init(_ arguments: Arguments, uid: UInt32) {
        var absolute = arguments
        for field in [\Arguments.runFolder, \.scratch, \.cache, \.state] {
            absolute[keyPath: field] = arguments[keyPath: field].map(Files.absolute)
        }
        self.init(absolute: absolute, uid: uid, runtimeFolder: Environment.current["XDG_RUNTIME_DIR"])
    }
}
