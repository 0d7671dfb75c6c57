/// The user's own files for cloud-init, read and looked at, none of them changed.
struct SeedSources: Equatable {
    var userData: FileContent?
    var metaData: FileContent?
    /// The same as a value, for what ConfigDrive wants as JSON.
    var metaDataValue: JSON?
    var networkConfig: FileContent?
    var sshKeys: [String] = []
    var warnings: [String] = []

    var isEmpty: Bool { userData == nil && metaData == nil && networkConfig == nil && sshKeys.isEmpty }
}
