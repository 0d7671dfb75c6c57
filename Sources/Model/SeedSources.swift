import Values

/// The user's own files for cloud-init, read and looked at, none of them changed.
package struct SeedSources: Equatable {
    package var userData: FileContent?
    package var metaData: FileContent?
    /// The same as a value, for what ConfigDrive wants as JSON.
    package var metaDataValue: JSON?
    package var networkConfig: FileContent?
    package var sshKeys: [String] = []
    package var warnings: [String] = []

    package init() {}

    package var isEmpty: Bool { userData == nil && metaData == nil && networkConfig == nil && sshKeys.isEmpty }
}
