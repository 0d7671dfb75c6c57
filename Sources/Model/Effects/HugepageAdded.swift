extension Effect {
    /// A hugepage of the default size that the host did not have before.
    package struct HugepageAdded: UnplannedEffect {}

    package static var hugepageAdded: Effect { .hugepageAdded(HugepageAdded()) }
}
